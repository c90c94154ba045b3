"""Per-feature statistics over a pass through text."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.tensor_types import Float, Int, Tensor

ULTRA_RARE = 1e-5
BANDS = {"above_10": 0.1, "1_to_10": 0.01, "0.1_to_1": 0.001, "below_0.1": 0.0}
"""Bands of frequency, in per cent, with the frequency above which each begins."""
_RESOLVES_ULTRA_RARE = 1_000_000


@dataclass
class FeatureSums:
    """Counts and sums of F features over n tokens.

    Attributes:
        n: tokens.
        count: tokens on which each feature is positive, int64 [F].
        sum_act: sum of each feature's activations, float64 [F].
        max_act: largest activation [F].
    """

    n: int
    count: Int[Tensor, " F"]
    sum_act: Float[Tensor, " F"]
    max_act: Float[Tensor, " F"]

    @staticmethod
    def empty(n_features: int) -> FeatureSums:
        return FeatureSums(
            n=0,
            count=torch.zeros(n_features, dtype=torch.int64),
            sum_act=torch.zeros(n_features, dtype=torch.float64),
            max_act=torch.zeros(n_features),
        )

    def add(self, seen: Encoded) -> None:
        """Add a batch of feature activations."""
        f = seen.f
        self.n += len(f)
        self.count += (f > 0).sum(dim=0).cpu()
        self.sum_act += f.sum(dim=0, dtype=torch.float64).cpu()
        self.max_act = torch.maximum(self.max_act, f.amax(dim=0).float().cpu())

    def merge(self, other: FeatureSums) -> FeatureSums:
        """The sums of both parts."""
        return FeatureSums(
            n=self.n + other.n,
            count=self.count + other.count,
            sum_act=self.sum_act + other.sum_act,
            max_act=torch.maximum(self.max_act, other.max_act),
        )

    def tensors(self) -> dict[str, Tensor]:
        """What `features.safetensors` holds: counts with their number of tokens, frequencies, and means."""
        return {
            "count": self.count,
            "tokens": torch.tensor([self.n]),
            "frequency": self.count.double() / max(1, self.n),
            "mean_act": (self.sum_act / self.count.clamp_min(1)).float(),
            "max_act": self.max_act,
        }

    def results(self) -> dict[str, float | int | None]:
        """How many features are dead, rare and dense.

        `ultra_rare` is None below a million tokens, which do not resolve a frequency of 1e-5.
        """
        frequency = self.count.double() / self.n
        resolved = self.n >= _RESOLVES_ULTRA_RARE
        return {
            "feature_tokens": self.n,
            "frequency_resolution": 1 / self.n,
            "alive": int((self.count > 0).sum()),
            "dead": int((self.count == 0).sum()),
            "ultra_rare": int(((self.count > 0) & (frequency < ULTRA_RARE)).sum()) if resolved else None,
            "dense_1": int((frequency > 0.01).sum()),
            "dense_10": int((frequency > 0.1).sum()),
            **_shares_of_l0(frequency),
        }


def _shares_of_l0(frequency: Float[Tensor, " F"]) -> dict[str, float | None]:
    """Which share of all firings is by features of each band of frequency."""
    total = float(frequency.sum())
    above = {name: float(frequency[frequency > least].sum()) for name, least in BANDS.items()}
    names = list(BANDS)
    inside = {name: above[name] - (above[names[i - 1]] if i else 0.0) for i, name in enumerate(names)}
    return {f"l0_share_{name}": part / total if total else None for name, part in inside.items()}
