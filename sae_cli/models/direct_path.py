"""The direct path: what a change at a hook point does to the logits with everything in between left alone.

A change Δ of the residual stream moves the logits by W_U·diag(γ)·Δ′/σ(r_L): the final norm is linear once
its scale σ is frozen at the clean run's, where Δ′ is Δ less its mean for a LayerNorm and Δ itself for an
RMSNorm. Later blocks are taken to do what they did.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sae_cli.config.hook import HookPoint
from sae_cli.models.hooks import Site
from sae_cli.models.language_model import LanguageModel
from sae_cli.tensor_types import Activations, Logits, SiteActivations


class FinalState(NamedTuple):
    """A clean run's end: the final norm's scale (B, T, 1), and the logits before any soft cap."""

    scale: Float[Tensor, "B T 1"]
    uncapped: Logits


class DirectPath:
    """The linear map from one site to the logits, given a clean run.

    Attributes:
        W: unembedding times the final norm's gain (V, D).
    """

    def __init__(self, model: LanguageModel, site: Site) -> None:
        self.model = model
        self.last = Site(HookPoint.resid, model.n_layers - 1)
        self.W = (model.parts.W_U() * model.parts.final_norm_gain()).float()
        self._to_resid = model.parts.mlp_act_to_resid(site.layer) if site.hook is HookPoint.mlp_act else None

    @staticmethod
    def exists(model: LanguageModel, site: Site) -> bool:
        """Whether the site maps linearly to the residual stream: `mlp_act` under a post-norm does not."""
        return not (site.hook is HookPoint.mlp_act and model.parts.family.post_norms)

    def final_state(self, final_resid: Activations, clean: Logits) -> FinalState:
        """What later changes are measured from: the clean residual stream after the last block, and its logits."""
        resid, norm = final_resid.float(), self.model.parts.final_norm
        if isinstance(norm, nn.Identity):
            return FinalState(torch.ones_like(resid[..., :1]), self._uncapped(final_resid, clean))
        centred = resid - resid.mean(dim=-1, keepdim=True) if self.model.parts.final_norm_centres else resid
        scale = (centred.square().mean(dim=-1, keepdim=True) + _epsilon(norm)).sqrt()
        return FinalState(scale, self._uncapped(final_resid, clean))

    def to_resid(self, change: SiteActivations) -> Activations:
        """A change at the site as a change of the residual stream."""
        return change.float() if self._to_resid is None else change.float() @ self._to_resid.float()

    def normalised(self, resid: Activations, state: FinalState) -> Activations:
        """Residual-stream vectors after the frozen final norm, its gain left to `W`."""
        if self.model.parts.final_norm_centres:
            resid = resid - resid.mean(dim=-1, keepdim=True)
        return resid / state.scale

    def logits(self, normalised_change: Activations, state: FinalState) -> Logits:
        """The logits after the change."""
        moved = state.uncapped + normalised_change @ self.W.T
        cap = self.model.parts.logit_soft_cap
        return moved if cap is None else cap * torch.tanh(moved / cap)

    def centred_gram(self) -> Float[Tensor, "D D"]:
        """WᵀCW with C = I - 11ᵀ/V, in float64: zᵀ·gram·z is the squared norm of z in centred logits."""
        W = self.W.double()
        W = W - W.mean(dim=0)
        return W.T @ W

    def _uncapped(self, final_resid: Activations, clean: Logits) -> Logits:
        parts = self.model.parts
        if parts.logit_soft_cap is None:
            return clean.float()
        with torch.no_grad():
            normed = parts.final_norm(final_resid)
            for projection in parts.output_projections:
                normed = projection(normed)
            return parts.unembedding(normed).float()


def _epsilon(norm: nn.Module) -> float:
    """The norm's ε under any of the names it goes by."""
    return next(float(getattr(norm, name)) for name in ("eps", "variance_epsilon") if hasattr(norm, name))
