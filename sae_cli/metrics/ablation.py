"""What taking a feature out of a language model changes where it fires."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from sae_cli.tensor_types import Bool, Float, Tensor


@dataclass
class AblationSums:
    """Sums over the tokens on which one feature fires, in float64.

    Attributes:
        n: tokens.
        activation: Σ fᵢ.
        all_paths, direct_path: Σ of what the feature adds to the centered logits [V].
        rows: for each row of text in which it fires before the last token, on how many, and the sum of what taking
            it out adds to the loss there.
    """

    vocab_size: int
    n: int = 0
    activation: float = 0.0
    all_paths: Tensor = field(init=False)
    direct_path: Tensor = field(init=False)
    rows: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.all_paths, self.direct_path = torch.zeros(2, self.vocab_size, dtype=torch.float64)

    def add_logits(self, f: Float[Tensor, " N"], all_paths: Float[Tensor, "N V"], direct: Float[Tensor, "N V"]) -> None:
        """Add tokens: the feature, and by how much logits were higher with it."""
        self.n += len(f)
        self.activation += float(f.double().sum())
        self.all_paths += _centred_sum(all_paths)
        self.direct_path += _centred_sum(direct)

    def add_losses(self, fires: Bool[Tensor, "B S"], increase: Float[Tensor, "B S"]) -> None:
        """Add rows: by how much the loss is higher without it."""
        per_row = (increase.double() * fires).sum(dim=1)
        self.rows += [(int(n), float(sum_)) for n, sum_ in zip(fires.sum(dim=1), per_row, strict=True) if n]

    def mean_effects(self) -> tuple[Float[Tensor, " V"], Float[Tensor, " V"]]:
        """What the feature adds to the logits where it fires: on all paths, on the direct path."""
        n = max(1, self.n)
        return (self.all_paths / n).float(), (self.direct_path / n).float()

    def loss_increase(self) -> tuple[float | None, float | None]:
        """Mean increase of the loss where it fires, and its standard error over rows."""
        tokens = sum(n for n, _ in self.rows)
        if not tokens:
            return None, None
        mean = sum(loss for _, loss in self.rows) / tokens
        if len(self.rows) < 2:
            return mean, None
        residual = sum((loss - mean * n) ** 2 for n, loss in self.rows)
        return mean, math.sqrt(residual * len(self.rows) / (len(self.rows) - 1)) / tokens


def _centred_sum(logits: Float[Tensor, "N V"]) -> Float[Tensor, " V"]:
    sums = logits.sum(dim=0, dtype=torch.float64)
    return sums - sums.mean()
