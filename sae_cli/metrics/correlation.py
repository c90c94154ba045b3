"""How alike features fire: their correlations with those of another dictionary on the same tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sae_cli.tensor_types import Float, Tensor


class FiredTogether(NamedTuple):
    """Features of two dictionaries on the same N tokens, which need not be of one model."""

    a: Float[Tensor, "N A"]
    b: Float[Tensor, "N B"]


class CorrelationSums:
    """Pearson's correlation of every feature of one dictionary with every one of another.

    Sums of single features are in float64, those of products in float32: they are what takes the memory.

    Attributes:
        n: tokens.
    """

    def __init__(self, n_a: int, n_b: int) -> None:
        self.n = 0
        self._of_a, self._of_b = (torch.zeros(2, n, dtype=torch.float64) for n in (n_a, n_b))
        self._products = torch.zeros(n_a, n_b)

    def add(self, seen: FiredTogether) -> None:
        """Add tokens."""
        self.n += len(seen.a)
        self._of_a, self._of_b = self._of_a + _powers(seen.a), self._of_b + _powers(seen.b)
        self._products += (seen.a.float().T.to_sparse() @ seen.b.float()).cpu()

    def merge(self, other: CorrelationSums) -> CorrelationSums:
        """The sums of both parts."""
        merged = CorrelationSums(*self._products.shape)
        for name in vars(self):
            setattr(merged, name, getattr(self, name) + getattr(other, name))
        return merged

    def results(self) -> Float[Tensor, "A B"]:
        """The correlations; 0 for a feature that is the same on all tokens."""
        n = max(1, self.n)
        (mean_a, scale_a), (mean_b, scale_b) = (
            _mean_and_inverse_deviation(each / n) for each in (self._of_a, self._of_b)
        )
        covariance = self._products / n - torch.outer(mean_a, mean_b).float()
        return (covariance * scale_a.float()[:, None] * scale_b.float()).clamp_(-1, 1)


def _powers(f: Float[Tensor, "N F"]) -> Float[Tensor, "2 F"]:
    """Σ f and Σ f² of each feature."""
    return torch.stack([f.sum(dim=0, dtype=torch.float64), f.double().square().sum(dim=0)]).cpu()


def _mean_and_inverse_deviation(moments: Float[Tensor, "2 F"]) -> tuple[Float[Tensor, " F"], Float[Tensor, " F"]]:
    mean, square = moments
    variance = square - mean.square()
    varies = variance > 1e-12 * square
    return mean, torch.where(varies, variance.clamp_min(1e-300).rsqrt(), 0.0)
