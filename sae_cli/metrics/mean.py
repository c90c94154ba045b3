"""A mean over tokens."""

from __future__ import annotations

import torch

from sae_cli.tensor_types import Float, Tensor


class Mean:
    """The mean of numbers, or of vectors, over all tokens that were added.

    Attributes:
        n: tokens.
        total: their sum, float64.
    """

    def __init__(self) -> None:
        self.n = 0
        self.total: Tensor = torch.zeros((), dtype=torch.float64)

    def add(self, seen: Float[Tensor, "N ..."]) -> None:
        """Add a number, or a vector, for each of N tokens."""
        self.n += len(seen)
        self.total = self.total.to(seen.device) + seen.sum(dim=0, dtype=torch.float64)

    def merge(self, other: Mean) -> Mean:
        """The mean over the tokens of both parts."""
        merged = Mean()
        merged.n, merged.total = self.n + other.n, self.total + other.total
        return merged

    def results(self) -> Float[Tensor, "*D"]:
        """The mean, float64."""
        return self.total / self.n
