"""The reconstruction error seen from another space: the residual update, or centered logits.

Equal errors at two hooks can differ greatly in what the rest of the network sees of them; in one space
dictionaries of different hooks compare.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sae_cli.tensor_types import Float, Tensor


class Replaced(NamedTuple):
    """Vectors and what stands in their place, both before the map [*N, D]."""

    there: Float[Tensor, "*N D"]
    instead: Float[Tensor, "*N D"]


class MappedError(NamedTuple):
    """What was found; None where nothing was added, or nothing varies.

    Attributes:
        fvu: Σ‖M(x - x̂)‖² / Σ‖M(x - x̄)‖².
        variance_sum: Σ‖M(x - x̄)‖².
    """

    fvu: float | None
    variance_sum: float | None


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

    def add(self, seen: Replaced) -> None:
        """Add vectors, and what stands in their place."""
        error, x = (each.double().flatten(0, -2) for each in (seen.instead - seen.there, seen.there))
        self.n += len(x)
        self.squared_error += self._squared_norm(error)
        self.first = self.first + x.sum(dim=0)
        self.second += self._squared_norm(x)

    def merge(self, other: MappedErrorSums) -> MappedErrorSums:
        """The sums of both parts, which are seen from the same space."""
        merged = MappedErrorSums(self.gram)
        for name in ("n", "squared_error", "first", "second"):
            setattr(merged, name, getattr(self, name) + getattr(other, name))
        return merged

    def results(self) -> MappedError:
        """The error as a share of the variance, and the variance."""
        if not self.n:
            return MappedError(None, None)
        variance = self.second - self._squared_norm(self.first[None]) / self.n
        return MappedError(self.squared_error / variance if variance > 0 else None, variance)

    def _squared_norm(self, v: Float[Tensor, "N D"]) -> float:
        mapped = v if self.gram is None else v @ self.gram.to(v.device)
        return float((mapped * v).sum())
