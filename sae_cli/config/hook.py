"""Hook points: where in a decoder block activations are read and replaced."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from omegaconf import MISSING

from sae_cli.config.idle import Idle
from sae_cli.config.naming import safe_part


class Basis(Enum):
    """What the dimensions of activations are."""

    neurons = "neurons"
    """Of the MLP of one layer; width d_mlp."""
    residual = "residual"
    """Of the residual stream; width d_model."""
    logits = "logits"
    """Coordinates of the centered logits of one model; width d_model."""
    module = "module"
    """Of one module that is named by its path, and of one side of it."""


class HookPoint(Enum):
    """What is autoencoded at block `layer` (see `sae_cli.models.targets`)."""

    mlp_act = "mlp_act"
    """Input of the MLP's down-projection, after the nonlinearity and the gate; width d_mlp."""
    mlp_out = "mlp_out"
    """The MLP's update to the residual stream (after a post-norm where there is one); width d_model."""
    attn_out = "attn_out"
    """The attention's update to the residual stream; width d_model."""
    resid = "resid"
    """The residual stream after the block; layer -1 is the input of block 0; width d_model."""
    logit_update = "logit_update"
    """The change of the logits that the MLP's update makes on the direct path; d_model coordinates."""
    logits = "logits"
    """The logits themselves, which belong to no layer; d_model coordinates."""
    module = "module"
    """What any one module reads or returns, named by its path; as wide as that is."""

    @property
    def place(self) -> "Place":
        """Where it is. Nothing is taken for granted: a hook point without an entry has no place."""
        if self not in _PLACES:
            raise AssertionError(f"hook={self.value}: expected an entry in the table of places, found none")
        return _PLACES[self]

    @property
    def basis(self) -> Basis:
        """What its dimensions are."""
        return self.place.basis


class Place(NamedTuple):
    """Where the activations of a hook point are, and what their dimensions are.

    Attributes:
        basis: what the dimensions are.
        part: the module of a block (a field of `sae_cli.models.parts.BlockParts`); None where the activations are
            computed from others, or the module is named by its path.
        at_input: whether it is what this module reads, not what it returns.
    """

    basis: Basis
    part: Literal["block", "attn_out", "mlp_out", "down_projection"] | None
    at_input: bool = False


_PLACES: Mapping[HookPoint, Place] = {
    HookPoint.mlp_act: Place(Basis.neurons, "down_projection", at_input=True),
    HookPoint.mlp_out: Place(Basis.residual, "mlp_out"),
    HookPoint.attn_out: Place(Basis.residual, "attn_out"),
    HookPoint.resid: Place(Basis.residual, "block"),
    HookPoint.logit_update: Place(Basis.logits, None),
    HookPoint.logits: Place(Basis.logits, None),
    HookPoint.module: Place(Basis.module, None),
}
_WITHOUT_LAYER = {
    HookPoint.logits: "the logits belong to no layer",
    HookPoint.module: "hook.path says where the module is",
}


class LogitMode(Enum):
    """The change of logits by an update u, r_L the final residual stream and n the final norm without its affine part.

    `exact`: n(r_L) - n(r_L - u); `linear`: the norm's scale is frozen at that of r_L.
    """

    exact = "exact"
    linear = "linear"


class Side(Enum):
    """`input`: the first tensor that a module is called with; `output`: the first tensor that it returns."""

    input = "input"
    output = "output"


@dataclass(kw_only=True)
class HookConfig:
    """The group `hook`."""

    point: HookPoint

    def __post_init__(self) -> None:
        if self.point is HookPoint.module and not isinstance(self, ModuleHook):
            raise ValueError("hook.point=module: expected the path of a module too; give hook=module hook.path=")

    @property
    def has_layer(self) -> bool:
        return self.point not in _WITHOUT_LAYER

    @property
    def called(self) -> str:
        """What people call it."""
        return self.point.value

    def label(self) -> str:
        """What runs are called by it."""
        return self.called

    def idle(self) -> Iterator[Idle]:
        """Settings without effect beside it."""
        if not self.has_layer:
            yield Idle("layer", f"with hook={self.point.value}: {_WITHOUT_LAYER[self.point]}", "leave layer out")


@dataclass(kw_only=True)
class LogitUpdateHook(HookConfig):
    """`hook=logit_update`."""

    mode: LogitMode = LogitMode.exact

    def label(self) -> str:
        return super().label() + (f"-{self.mode.value}" if self.mode is not LogitMode.exact else "")

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if self.point is not HookPoint.logit_update:
            yield Idle("hook.mode", f"with hook.point={self.point.value}", f"give hook={self.point.value}")


@dataclass(kw_only=True)
class ModuleHook(HookConfig):
    """`hook=module`: one side of any module of any model.

    Attributes:
        path: of the module, as the model's `named_modules` has it: `model.layers.3.mlp.down_proj`.
        side: what it is given, or what it returns.
    """

    path: str = MISSING
    side: Side = Side.output

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.path:
            raise ValueError("hook.path= is empty: expected the path of a module, as model.layers.3.mlp.down_proj")

    @property
    def called(self) -> str:
        return f"{self.path}.{self.side.value}" if self.point is HookPoint.module else super().called

    def label(self) -> str:
        return safe_part(self.called)

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if self.point is not HookPoint.module:
            for key in ("hook.path", "hook.side"):
                yield Idle(key, f"with hook.point={self.point.value}", f"give hook={self.point.value}")


class SiteConfig(NamedTuple):
    """One place that a dictionary reads or writes, as a configuration names it.

    Attributes:
        hook: the hook point, with its mode where it has one, or its path and side.
        layer: the block; -1 is the input of block 0; None where the hook belongs to no layer.
    """

    hook: HookConfig
    layer: int | None

    @classmethod
    def of(cls, hook: HookConfig, layer: int) -> "SiteConfig":
        """The place that the settings `hook` and `layer` name."""
        return cls(hook, layer if hook.has_layer else None)

    @property
    def label(self) -> str:
        """`mlp_out.3`, `logits`, or `model.layers.3.mlp.down_proj.output`."""
        return self.hook.called if self.layer is None else f"{self.hook.called}.{self.layer}"
