"""How well activations are reconstructed, and how sparse the code is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.mean import Mean
from sae_cli.tensor_types import Float, Tensor


@dataclass
class ReconstructionSums:
    """Sums over n tokens, from which every reconstruction metric follows by one division.

    Activations are summed relative to a fixed `origin`, so that a large common mean costs no digits.

    Attributes:
        origin: any vector near the mean of x [d].
        n: tokens.
        active: Σ #(f > 0).
        l1: Σ Σᵢ fᵢ‖dᵢ‖.
        squared_error: Σ‖x - x̂‖².
        first, second: Σ(x - origin) [d] and Σ‖x - origin‖².
        cosine, norm_ratio: sums over the tokens where these exist.
        zero_norm_input: tokens where x has norm 0 (no norm ratio).
        zero_norm: tokens where x or x̂ has norm 0 (no cosine).
        output_square, product: Σ‖x̂‖² and Σ x·x̂.
    """

    origin: Float[Tensor, " D"]
    n: int = 0
    active: int = 0
    l1: float = 0.0
    squared_error: float = 0.0
    first: Float[Tensor, "*_"] = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    second: float = 0.0
    cosine: float = 0.0
    norm_ratio: float = 0.0
    zero_norm_input: int = 0
    zero_norm: int = 0
    output_square: float = 0.0
    product: float = 0.0

    def add(self, seen: Encoded) -> None:
        """Add a batch: what is to be reconstructed, the reconstructions, the features."""
        self.n += len(seen.target)
        self.active += int((seen.f > 0).sum())
        self.l1 += float(seen.f.sum(dim=0, dtype=torch.float64) @ seen.decoder_norms.double())
        x, reconstruction = seen.target.double(), seen.reconstruction.double()
        self.squared_error += float((x - reconstruction).square().sum())
        shifted = x - self.origin.double()
        self.first = self.first + shifted.sum(dim=0)
        self.second += float(shifted.square().sum())
        self.output_square += float(reconstruction.square().sum())
        product = (x * reconstruction).sum(dim=1)
        self.product += float(product.sum())
        self._add_norms(x.norm(dim=1), reconstruction.norm(dim=1), product)

    def _add_norms(self, x_norm: Tensor, output_norm: Tensor, product: Tensor) -> None:
        both = (x_norm > 0) & (output_norm > 0)
        self.cosine += float((product[both] / (x_norm[both] * output_norm[both])).sum())
        self.norm_ratio += float((output_norm[x_norm > 0] / x_norm[x_norm > 0]).sum())
        self.zero_norm_input += int((x_norm == 0).sum())
        self.zero_norm += int((~both).sum())

    def merge(self, other: ReconstructionSums) -> ReconstructionSums:
        """The sums of both parts (another batch, another rank); the origins must be the same."""
        assert bool((self.origin == other.origin).all())
        added = {name: getattr(self, name) + getattr(other, name) for name in vars(self) if name != "origin"}
        return ReconstructionSums(self.origin, **added)

    @property
    def variance_sum(self) -> float:
        """Σ‖x - x̄‖², x̄ the mean over these tokens."""
        return self.second - float(self.first.square().sum()) / self.n

    @property
    def l0(self) -> float:
        """Features that fire, a token."""
        return self.active / self.n

    def results(self) -> dict[str, float | None]:
        """Every metric by its name; None where it does not exist (all activations equal, say)."""
        n, d = self.n, len(self.origin)
        fvu = _ratio(self.squared_error, self.variance_sum)
        return {
            "l0": self.l0,
            "l1": self.l1 / n,
            "mse": self.squared_error / n,
            "mse_per_dim": self.squared_error / n / d,
            "rmse_per_dim": math.sqrt(self.squared_error / n / d),
            "fvu": fvu,
            "explained_variance": None if fvu is None else 1 - fvu,
            "cosine": _ratio(self.cosine, n - self.zero_norm),
            "norm_ratio": _ratio(self.norm_ratio, n - self.zero_norm_input),
            "reconstruction_bias": _ratio(self.output_square, self.product),
            "zero_norm_tokens": self.zero_norm,
        }


class MeanError:
    """The mean of x - x̂."""

    def __init__(self, mean: Mean | None = None) -> None:
        self._mean = mean or Mean()

    def add(self, seen: Encoded) -> None:
        """Add a batch."""
        self._mean.add(seen.target - seen.reconstruction)

    def merge(self, other: MeanError) -> MeanError:
        """The mean over the tokens of both parts."""
        return MeanError(self._mean.merge(other._mean))

    def results(self) -> Float[Tensor, " D"]:
        """The mean, float64."""
        return self._mean.results()


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
