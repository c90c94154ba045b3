"""What taking a feature out of a language model changes where it fires."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch

from sae_cli.tensor_types import Bool, Float, Tensor


@dataclass(frozen=True)
class TakenOut:
    """Rows of text with and without a feature: at the N positions where it fires, and at all that have a next token.

    Attributes:
        f: the feature where it fires.
        all_paths, direct_path: by how much logits were higher there with it; None where the direct path is not known.
        fires: where.
        increase: by how much the loss is higher without it.
    """

    f: Float[Tensor, " N"]
    all_paths: Float[Tensor, "N V"]
    direct_path: Float[Tensor, "N V"] | None
    fires: Bool[Tensor, "B S"]
    increase: Float[Tensor, "B S"]


class AblationFigures(TypedDict):
    """Of a feature on its tokens; what it does there only if there are any, and on the direct path only if that is
    known."""

    tokens: int
    mean_act: NotRequired[float]
    ce_increase: float | None
    ce_increase_se: float | None
    cosine_direct: NotRequired[float]


class AblationSums:
    """Sums over the tokens on which one feature fires, in float64.

    Attributes:
        n: tokens.
        activation: Σ fᵢ.
        all_paths, direct_path: Σ of what the feature adds to the centered logits [V]; None where the direct path is
            not known.
        rows: for each row of text in which it fires before the last token, on how many, and the sum of what taking
            it out adds to the loss there.
    """

    def __init__(self, vocab_size: int, direct: bool = True) -> None:
        self.n = 0
        self.activation = 0.0
        self.all_paths = torch.zeros(vocab_size, dtype=torch.float64)
        self.direct_path = torch.zeros(vocab_size, dtype=torch.float64) if direct else None
        self.rows: list[tuple[int, float]] = []

    def add(self, seen: TakenOut) -> None:
        """Add rows."""
        self.n += len(seen.f)
        self.activation += float(seen.f.double().sum())
        self.all_paths = self.all_paths + _centered_sum(seen.all_paths)
        if self.direct_path is not None and seen.direct_path is not None:
            self.direct_path = self.direct_path + _centered_sum(seen.direct_path)
        per_row = (seen.increase.double() * seen.fires).sum(dim=1)
        self.rows += [(int(n), float(sum_)) for n, sum_ in zip(seen.fires.sum(dim=1), per_row, strict=True) if n]

    def merge(self, other: AblationSums) -> AblationSums:
        """The sums of both parts."""
        merged = AblationSums(len(self.all_paths), self.direct_path is not None)
        for name, value in vars(self).items():
            setattr(merged, name, None if value is None else value + getattr(other, name))
        return merged

    def results(self) -> AblationFigures:
        """On how many tokens it fires and, if on any, how strongly, what taking it out adds to the loss there, and the
        cosine of its effects on all paths and on the direct one, where that is known."""
        increase, error = self._loss_increase()
        if not self.n:
            return {"tokens": self.n, "ce_increase": increase, "ce_increase_se": error}
        found: AblationFigures = {
            "tokens": self.n,
            "mean_act": self.activation / self.n,
            "ce_increase": increase,
            "ce_increase_se": error,
        }
        all_paths, direct_path = self.mean_effects()
        if direct_path is not None:
            found["cosine_direct"] = float(torch.cosine_similarity(all_paths, direct_path, dim=0))
        return found

    def mean_effects(self) -> tuple[Float[Tensor, " V"], Float[Tensor, " V"] | None]:
        """What the feature adds to the logits where it fires: on all paths, on the direct path."""
        n = max(1, self.n)
        return (self.all_paths / n).float(), None if self.direct_path is None else (self.direct_path / n).float()

    def _loss_increase(self) -> tuple[float | None, float | None]:
        """Mean increase of the loss where it fires, and its standard error over rows."""
        tokens = sum(n for n, _ in self.rows)
        if not tokens:
            return None, None
        mean = sum(loss for _, loss in self.rows) / tokens
        if len(self.rows) < 2:
            return mean, None
        residual = sum((loss - mean * n) ** 2 for n, loss in self.rows)
        return mean, math.sqrt(residual * len(self.rows) / (len(self.rows) - 1)) / tokens


def _centered_sum(logits: Float[Tensor, "N V"]) -> Float[Tensor, " V"]:
    sums = logits.sum(dim=0, dtype=torch.float64)
    return sums - sums.mean()
