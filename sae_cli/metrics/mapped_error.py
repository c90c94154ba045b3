"""The reconstruction error seen from another space: the residual update, or centered logits.

Equal errors at two hooks can differ greatly in what the rest of the network sees of them; in one space
dictionaries of different hooks compare.
"""

from __future__ import annotations

import torch

from sae_cli.tensor_types import Float, Tensor


class MappedErrorSums:
    """Σ‖M e‖² and the variance of M x over tokens, ‖M v‖² = vᵀ·gram·v; float64.

    Args:
        gram: MᵀM [D, D]; None for the plain norm.
    """

    def __init__(self, gram: Float[Tensor, "D D"] | None = None) -> None:
        self.gram = gram
        self.n = 0
        self.squared_error = 0.0
        self.first = torch.zeros((), dtype=torch.float64)
        self.second = 0.0

    def add(self, error: Float[Tensor, "*N D"], x: Float[Tensor, "*N D"]) -> None:
        """Add vectors and the errors made of them, both before the map."""
        error, x = error.double().flatten(0, -2), x.double().flatten(0, -2)
        self.n += len(x)
        self.squared_error += self._squared_norm(error)
        self.first = self.first + x.sum(dim=0)
        self.second += self._squared_norm(x)

    def fvu(self) -> float | None:
        """Σ‖M(x - x̂)‖² / Σ‖M(x - x̄)‖²; None where nothing varies."""
        variance = self.variance_sum()
        return self.squared_error / variance if variance > 0 else None

    def variance_sum(self) -> float:
        """Σ‖M(x - x̄)‖²."""
        return self.second - self._squared_norm(self.first[None]) / self.n

    def _squared_norm(self, v: Float[Tensor, "N D"]) -> float:
        mapped = v if self.gram is None else v @ self.gram.to(v.device)
        return float((mapped * v).sum())
