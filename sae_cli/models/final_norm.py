"""The norm before the unembedding, without its affine part."""

from __future__ import annotations

import torch
from torch import nn

from sae_cli.models.parts import ModelParts
from sae_cli.tensor_types import Float, Tensor


class FinalNorm:
    """n(r) = (r - mean(r)) / σ(r) for a LayerNorm, r / σ(r) for an RMSNorm, r itself where there is no norm.

    Gain and bias are left to the map from here to the logits. Everything is in float32, float64 for float64.
    """

    def __init__(self, parts: ModelParts) -> None:
        self._norm, self._centers = parts.final_norm, parts.final_norm_centers

    def __call__(self, resid: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        return self.linear(resid, self.scale(resid))

    def scale(self, resid: Float[Tensor, "*N D"]) -> Float[Tensor, "*N 1"]:
        """σ: what each vector is divided by."""
        resid = self._centered(resid)
        if isinstance(self._norm, nn.Identity):
            return torch.ones_like(resid[..., :1])
        return (resid.square().mean(dim=-1, keepdim=True) + _epsilon(self._norm)).sqrt()

    def linear(self, change: Float[Tensor, "*N D"], scale: Float[Tensor, "*N 1"]) -> Float[Tensor, "*N D"]:
        """The norm with its scale frozen: what a change before it is after it."""
        return self._centered(change) / scale

    def _centered(self, vectors: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        vectors = at_least_float32(vectors)
        return vectors - vectors.mean(dim=-1, keepdim=True) if self._centers else vectors


def at_least_float32(x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
    """float64 as it is, everything else in float32."""
    return x if x.dtype is torch.float64 else x.float()


def _epsilon(norm: nn.Module) -> float:
    """The norm's ε under any of the names it goes by."""
    return next(float(getattr(norm, name)) for name in ("eps", "variance_epsilon") if hasattr(norm, name))
