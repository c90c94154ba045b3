"""The direct path: what a change at a hook point does to the logits with everything in between left alone.

A change Δ of the residual stream moves the logits by W_U·diag(γ)·Δ′/σ(r_L): the final norm is linear once
its scale σ is frozen at the clean run's, where Δ′ is Δ less its mean for a LayerNorm and Δ itself for an
RMSNorm. Later blocks are taken to do what they did. `Target.normalized` gives Δ′/σ for every hook.
"""

from __future__ import annotations

import torch

from sae_cli.models.language_model import LanguageModel
from sae_cli.models.outputs import HiddenOutputs, soft_capped
from sae_cli.tensor_types import Activations, Float, Int, Logits, Tensor


class DirectPath:
    """From changes after the final norm to logits, given a clean run."""

    def __init__(self, model: LanguageModel) -> None:
        self._W, self._cap = model.end.logit_space.W, model.parts.logit_soft_cap

    def outputs(self, clean: HiddenOutputs, normalized_change: Activations) -> DirectOutputs:
        """What the clean run leaves for the unembedding, after the change."""
        return DirectOutputs(clean, normalized_change, self._W, self._cap)


class DirectOutputs:
    """The end of a clean run with a change that nothing but the unembedding sees; see `Outputs`."""

    def __init__(
        self, clean: HiddenOutputs, change: Activations, W: Float[Tensor, "V D"], soft_cap: float | None
    ) -> None:
        self._clean, self._change, self._W, self._cap = clean, change, W, soft_cap
        self.n_logits = clean.n_logits

    def __call__(self, where: Int[Tensor, " N"]) -> Float[Tensor, "N V"]:
        change = self._change.flatten(0, 1)[where.to(self._change.device)]
        return soft_capped(torch.addmm(self._clean.uncapped(where), change.float(), self._W.T), self._cap)

    def all(self) -> Logits:
        rows, context = self._change.shape[:2]
        return self(torch.arange(rows * context)).unflatten(0, (rows, context))
