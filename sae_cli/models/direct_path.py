"""The direct path: what a change at a hook point does to the logits with everything in between left alone.

A change Δ of the residual stream moves the logits by W_U·diag(γ)·Δ′/σ(r_L): the final norm is linear once
its scale σ is frozen at the clean run's, where Δ′ is Δ less its mean for a LayerNorm and Δ itself for an
RMSNorm. Later blocks are taken to do what they did. `Target.normalized` gives Δ′/σ for every hook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from sae_cli.models.language_model import LanguageModel
from sae_cli.models.outputs import HiddenOutputs, soft_capped
from sae_cli.tensor_types import Activations, Float, Int, Logits, Tensor

_ALIKE = 1e-6
"""Share of its length by which a change may differ from a multiple of another and be taken for it."""


class DirectPath:
    """From changes after the final norm to logits, given a clean run.

    Of a model that computes in fewer bits the product with the unembedding is one of its own kind.
    """

    def __init__(self, model: LanguageModel) -> None:
        W = model.end.logit_space.W
        self._W, self._cap = W if model.dtype == torch.float32 else W.to(model.dtype), model.parts.logit_soft_cap

    def outputs(
        self, clean: HiddenOutputs, there: Activations, instead: Mapping[str, Activations]
    ) -> dict[str, DirectOutputs]:
        """What the clean run leaves for the unembedding, after each of several changes.

        Args:
            clean: the end of the clean run.
            there: what it had, after the final norm.
            instead: what is to be there, by a name. One that differs from an earlier one by multiples of one vector, as
                two constants do, takes no product of its own.
        """
        found: dict[str, DirectOutputs] = {}
        for name, values in instead.items():
            of_earlier = ((other, _multiples(values - instead[other])) for other in found)
            other, multiples = next((each for each in of_earlier if each[1] is not None), ("", None))
            if multiples is None:
                found[name] = DirectOutputs(clean, values - there, self._W, self._cap)
            else:
                found[name] = DirectOutputs(found[other], multiples, self._W, self._cap)
        return found


class Multiples(NamedTuple):
    """A change that is a multiple of one vector at each position: how much of it [B, T], and the vector."""

    amount: Float[Tensor, "B T"]
    vector: Float[Tensor, " D"]


class DirectOutputs:
    """The end of a clean run with a change that nothing but the unembedding sees; see `Outputs`.

    Args:
        before: the end without this change: of the clean run, or of it with another.
        change: after the final norm.
        W: the map from there to logits.
        soft_cap: of the logits.
    """

    def __init__(
        self,
        before: HiddenOutputs | DirectOutputs,
        change: Activations | Multiples,
        W: Float[Tensor, "V D"],
        soft_cap: float | None,
    ) -> None:
        self._before, self._change, self._W, self._cap = before, change, W, soft_cap
        self.n_logits = before.n_logits
        self._last: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def uncapped(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """As of `HiddenOutputs`."""
        if self._last is None or self._last[0] is not where:
            self._last = where, self._moved(where)
        return self._last[1]

    def _moved(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        before, at = self._before.uncapped(where), where.to(self._W.device)
        if isinstance(self._change, Multiples):
            moved = self._W.float() @ self._change.vector
            return torch.addr(before, self._change.amount.flatten()[at], moved)
        change = self._change.flatten(0, 1)[at]
        if self._W.dtype == torch.float32:
            return torch.addmm(before, change.float(), self._W.T)
        return before + change.to(self._W.dtype) @ self._W.T

    def __call__(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        return soft_capped(self.uncapped(where), self._cap)

    def all(self) -> Logits:
        change = self._change.amount if isinstance(self._change, Multiples) else self._change
        rows, context = change.shape[:2]
        return self(torch.arange(rows * context)).unflatten(0, (rows, context))


def _multiples(change: Activations) -> Multiples | None:
    """The change as multiples of one vector; None where it is none."""
    change = change.float()
    lengths = change.norm(dim=-1)
    vector = change.flatten(0, 1)[lengths.argmax()]
    square = vector.square().sum()
    amount = change @ vector / square if square > 0 else torch.zeros_like(lengths)
    left = (change - amount[..., None] * vector).norm(dim=-1)
    return Multiples(amount, vector) if bool((left <= _ALIKE * lengths).all()) else None
