"""The direct path: what a change at a hook point does to the logits with everything in between left alone.

A change Δ of the residual stream moves the logits by W_U·diag(γ)·Δ′/σ(r_L): the final norm is linear once
its scale σ is frozen at the clean run's, where Δ′ is Δ less its mean for a LayerNorm and Δ itself for an
RMSNorm. Later blocks are taken to do what they did. `Target.normalized` gives Δ′/σ for every hook.
"""

from __future__ import annotations

import torch

from sae_cli.models.language_model import LanguageModel
from sae_cli.tensor_types import Activations, Logits


class DirectPath:
    """From changes after the final norm to logits, given a clean run."""

    def __init__(self, model: LanguageModel) -> None:
        self._parts, self._W = model.parts, model.end.logit_space.W

    def uncapped(self, final_resid: Activations, clean: Logits) -> Logits:
        """The logits of a clean run before any soft cap: what later changes are added to."""
        if self._parts.logit_soft_cap is None:
            return clean.float()
        with torch.no_grad():
            normed = self._parts.final_norm(final_resid)
            for projection in self._parts.output_projections:
                normed = projection(normed)
            return self._parts.unembedding(normed).float() * self._parts.logit_scale

    def logits(self, normalized_change: Activations, uncapped: Logits) -> Logits:
        """The logits after the change."""
        moved = uncapped + normalized_change @ self._W.T
        cap = self._parts.logit_soft_cap
        return moved if cap is None else cap * torch.tanh(moved / cap)
