"""What is autoencoded at a hook point: how it is made of what the model computes, and put back in its place.

Most hook points are read where they are. The logit hooks are computed, in the coordinates of `LogitSpace`, from
the final residual stream r_L and the MLP's update u:

    logits                 y = S n(r_L)
    logit_update exact     y = S (n(r_L) - n(r_L - u))
    logit_update linear    y = S (u less its mean where the norm centers) / σ(r_L)

`seen` is what a clean run had at the places that a target needs, at the same positions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property

import torch

from sae_cli.config.hook import Basis, HookPoint, LogitMode
from sae_cli.models.final_norm import FinalNorm, at_least_float32
from sae_cli.models.hooks import Site
from sae_cli.models.logit_space import LOGIT_ROOT, LogitSpace
from sae_cli.models.parts import ModelParts
from sae_cli.tensor_types import Activations, Float, SiteActivations, Tensor

Seen = Mapping[Site, SiteActivations]


class ModelEnd:
    """What comes after a model's last block.

    Attributes:
        parts: of the model.
        final_resid: the residual stream after the last block.
        final_norm: the norm before the unembedding, without its affine part.
    """

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts
        self.final_resid = Site(HookPoint.resid, len(parts.blocks) - 1)
        self.final_norm = FinalNorm(parts)

    @cached_property
    def logit_space(self) -> LogitSpace:
        """Made from the unembedding when it is first asked for."""
        return LogitSpace(self.parts)


class Target:
    """What a dictionary of one site reads and writes: activations that are read, and replaced, where they are, unless
    a kind of target says otherwise.

    Attributes:
        site: hook point, layer and mode, or one side of a module.
        taps: the places in the model that it is computed from.
        replaced: the place in the model that takes a replacement, and so acts on all paths; None where there is none.
    """

    taps: tuple[Site, ...]
    replaced: Site | None

    def __init__(self, site: Site) -> None:
        self.site = self.replaced = site
        self.taps = (site,)

    @property
    def needed(self) -> tuple[Site, ...]:
        """The places that a clean run has to be watched at."""
        return self.taps

    def coordinates(self) -> dict[str, Tensor]:
        """What must be known to compute the activations from the model, and the model's own files do not say, for a
        file: nothing where they are read as they are."""
        return {}

    def read(self, seen: Seen) -> SiteActivations:
        """The activations x."""
        return seen[self.site]

    def put(self, values: SiteActivations, seen: Seen) -> SiteActivations:
        """What stands at `replaced` when `values` stand for x."""
        return values


class MappedTarget(Target, ABC):
    """A target whose direct path to the logits is known.

    Attributes:
        end: what comes after the last block.
    """

    def __init__(self, end: ModelEnd, site: Site) -> None:
        super().__init__(site)
        self.end = end

    @property
    def needed(self) -> tuple[Site, ...]:
        return (*self.taps, self.end.final_resid)

    @abstractmethod
    def resid(self, values: SiteActivations, seen: Seen) -> Activations | None:
        """`values` as an update of the residual stream, up to a constant; None where there is no such map."""

    @abstractmethod
    def normalized(self, values: SiteActivations, seen: Seen) -> Activations:
        """`values` after the final norm on the direct path, its scale frozen, its gain left out; up to a constant."""

    @abstractmethod
    def rows_to_resid(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        """What directions are in the residual stream; for logit hooks, and under a post-norm, up to their lengths."""

    def rows_to_normalized(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        """What directions are after the final norm, its scale left out."""
        resid = self.rows_to_resid(rows)
        return self.end.final_norm.linear(resid, resid.new_ones(len(resid), 1))

    def rows_to_logits(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        """What directions do to the centered logits on the direct path, in the coordinates of `LogitSpace`."""
        return self.end.logit_space.coordinates(self.rows_to_normalized(rows).double()).float()


class TappedTarget(MappedTarget):
    """Activations that are an update of the residual stream, or the stream itself."""

    def resid(self, values: SiteActivations, seen: Seen) -> Activations:
        return at_least_float32(values)

    def normalized(self, values: SiteActivations, seen: Seen) -> Activations:
        norm = self.end.final_norm
        return norm.linear(self.resid(values, seen), norm.scale(seen[self.end.final_resid]))

    def rows_to_resid(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        return rows.float()


class MlpActTarget(TappedTarget):
    """The input of the MLP's down-projection, which the rest of the network sees through that map."""

    @cached_property
    def _map(self) -> Float[Tensor, "M D"]:
        return self.end.parts.mlp_act_to_resid(self.site.layer).float()

    def resid(self, values: SiteActivations, seen: Seen) -> Activations:
        if not self.end.parts.family.post_norms:
            return at_least_float32(values) @ self._map.to(values.dtype)
        block = self.end.parts.blocks[self.site.layer]
        assert block.down_projection is not None, "a mixture of experts has no mlp_act"
        with torch.no_grad():
            return block.mlp_out(block.down_projection(values.to(self._map.dtype))).float()

    def rows_to_resid(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        return rows.float() @ self._map


class LogitTarget(MappedTarget):
    """What is computed in logit coordinates."""

    def coordinates(self) -> dict[str, Tensor]:
        return {LOGIT_ROOT: self.end.logit_space.S.float().cpu()}

    def normalized(self, values: SiteActivations, seen: Seen) -> Activations:
        return self.end.logit_space.normalized(values)

    def rows_to_resid(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        return self.rows_to_normalized(rows)

    def rows_to_normalized(self, rows: Float[Tensor, "F _"]) -> Float[Tensor, "F D"]:
        return self.end.logit_space.normalized(rows.double()).float()


class LogitsTarget(LogitTarget):
    """The logits: nothing comes after them."""

    def __init__(self, end: ModelEnd, site: Site) -> None:
        super().__init__(end, site)
        self.taps, self.replaced = (end.final_resid,), None

    def read(self, seen: Seen) -> SiteActivations:
        return self.end.logit_space.coordinates(self.end.final_norm(seen[self.end.final_resid]))

    def put(self, values: SiteActivations, seen: Seen) -> SiteActivations:
        raise AssertionError("logits are not put back into the model")

    def resid(self, values: SiteActivations, seen: Seen) -> None:
        return None


class LogitUpdateTarget(LogitTarget):
    """The change of the logits that the MLP's update makes on the direct path.

    With the norm's scale frozen it is a map of the update, whose inverse leaves alone what logits do not show: then
    a replacement acts on all paths. Under `exact` the scale belongs to the change, and there is no such inverse.
    """

    def __init__(self, end: ModelEnd, site: Site) -> None:
        super().__init__(end, site)
        self._update = Site(HookPoint.mlp_out, site.layer)
        self._linear = site.mode is LogitMode.linear
        self.taps = (self._update, end.final_resid)
        self.replaced = self._update if self._linear else None

    def read(self, seen: Seen) -> SiteActivations:
        norm, final, update = self.end.final_norm, seen[self.end.final_resid], seen[self._update]
        if self._linear:
            z = norm.linear(update, norm.scale(final))
        else:
            z = norm(final) - norm(at_least_float32(final) - update)
        return self.end.logit_space.coordinates(z)

    def put(self, values: SiteActivations, seen: Seen) -> SiteActivations:
        """u + σ(r_L) S⁺(values - y): the update itself where `values` are y, with its own mean under a LayerNorm."""
        norm, update = self.end.final_norm, seen[self._update]
        change = self.end.logit_space.normalized(values - self.read(seen))
        centered = norm.linear(change, torch.ones_like(change[..., :1]))
        return update + norm.scale(seen[self.end.final_resid]) * centered

    def resid(self, values: SiteActivations, seen: Seen) -> Activations | None:
        return self.put(values, seen) if self._linear else None


def make_target(end: ModelEnd, site: Site) -> MappedTarget:
    """The target of a site of a block, or of the logits, that the model has."""
    match site.hook:
        case HookPoint.logit_update:
            return LogitUpdateTarget(end, site)
        case HookPoint.logits:
            return LogitsTarget(end, site)
        case HookPoint.mlp_act:
            return MlpActTarget(end, site)
        case hook if hook.place.part and hook.basis is Basis.residual:
            return TappedTarget(end, site)
    raise AssertionError(f"hook={site.hook.value}: expected a hook point with a target, found none")
