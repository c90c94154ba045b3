"""What a forward pass leaves for the unembedding, and logits made of it when they are asked for.

Logits of a whole batch take as much memory as the vocabulary is large. Whoever needs them at some positions at a time,
as losses do, lets the model run on many rows, and the unembedding on few positions.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch

from sae_cli.models.parts import ModelParts
from sae_cli.tensor_types import Activations, Float, Int, Logits, Tensor


@runtime_checkable
class Outputs(Protocol):
    """The end of a forward pass over rows [B, T].

    Attributes:
        n_logits: V.
    """

    n_logits: int

    def __call__(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """The logits at some positions, numbered row after row, in float32."""
        ...

    def all(self) -> Logits:
        """The logits at all of them."""
        ...


class LogitsOutputs:
    """Of a model whose end is not known: the logits, which it has made."""

    def __init__(self, logits: Logits) -> None:
        self._logits = logits
        self.n_logits = logits.shape[2]

    def __call__(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        return self._logits.flatten(0, 1)[where.to(self._logits.device)].float()

    def all(self) -> Logits:
        return self._logits


class HiddenOutputs:
    """Of a model whose end is known: what the unembedding reads [B, T, D].

    Args:
        parts: of the model.
        hidden: after the final norm, and the projections that come after it.
    """

    def __init__(self, parts: ModelParts, hidden: Activations) -> None:
        self._parts, self._hidden = parts, hidden
        self.n_logits = parts.vocab_size
        self._last: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def uncapped(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        """The logits at some positions before any soft cap, in float32; the last that were asked for are kept."""
        if self._last is None or self._last[0] is not where:
            self._last = where, self._unembedded(self._hidden.flatten(0, 1)[where.to(self._hidden.device)])
        return self._last[1]

    def __call__(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        return soft_capped(self.uncapped(where), self._parts.logit_soft_cap)

    @torch.no_grad()
    def all(self) -> Logits:
        return soft_capped(self._unembedded(self._hidden), self._parts.logit_soft_cap)

    def _unembedded(self, hidden: Float[Tensor, "*N D"]) -> Float[Tensor, "*N V"]:
        logits = self._parts.unembedding(hidden).float()
        return logits if self._parts.logit_scale == 1.0 else logits * self._parts.logit_scale


def soft_capped(logits: Float[Tensor, "*N V"], cap: float | None) -> Float[Tensor, "*N V"]:
    """`cap·tanh(logits/cap)`, where there is a cap."""
    return logits if cap is None else cap * torch.tanh(logits / cap)
