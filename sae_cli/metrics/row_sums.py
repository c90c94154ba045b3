"""Sums over rows of text, and figures of them with their standard errors.

The rows, not the tokens, are the independent draws: a figure is a function of the totals, and its standard
error comes from the differences between rows, by the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from sae_cli.tensor_types import Float, Tensor

OfTotals = Callable[[Mapping[str, Tensor]], Tensor]
"""A figure as a function of the totals by column."""


class Estimate(NamedTuple):
    """A figure and its standard error; None where it does not exist."""

    value: float | None
    se: float | None


class RowSums:
    """The sums of every row of text, kept row by row: two that were taken on the same rows can be paired.

    Args:
        columns: what is summed.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        self._parts: list[Tensor] = [torch.zeros(0, len(self.columns), dtype=torch.float64)]

    @classmethod
    def of(cls, **columns: Float[Tensor, " R"]) -> RowSums:
        """The rows whose sums are these."""
        sums = cls(tuple(columns))
        sums.add(torch.stack(list(columns.values()), dim=1))
        return sums

    def add(self, seen: Float[Tensor, "B C"]) -> None:
        """Add the sums of rows, float64."""
        self._parts.append(seen)

    def merge(self, other: RowSums) -> RowSums:
        """The rows of both parts."""
        assert self.columns == other.columns
        merged = RowSums(self.columns)
        merged._parts = [self.per_row, other.per_row]
        return merged

    def results(self) -> dict[str, float]:
        """The totals by column."""
        return dict(zip(self.columns, self.total.tolist(), strict=True))

    @property
    def per_row(self) -> Float[Tensor, "R C"]:
        """The sums of each row."""
        if len(self._parts) > 1:
            self._parts = [torch.cat(self._parts)]
        return self._parts[0]

    @property
    def rows(self) -> int:
        return len(self.per_row)

    @property
    def total(self) -> Float[Tensor, " C"]:
        return self.per_row.sum(dim=0)

    def column(self, name: str) -> Float[Tensor, " R"]:
        return self.per_row[:, self.columns.index(name)]

    def estimate(self, figure: OfTotals) -> Estimate:
        """A function of the totals and its standard error: variance of ∇g · (row sums) over rows."""
        total = self.total.clone().requires_grad_(True)
        value = figure(dict(zip(self.columns, total, strict=True)))
        if not torch.isfinite(value):
            return Estimate(None, None)
        if self.rows < 2:
            return Estimate(value.item(), None)
        (gradient,) = torch.autograd.grad(value, total)
        influence = (self.per_row - self.total / self.rows) @ gradient
        return Estimate(value.item(), math.sqrt(float(influence.square().sum()) * self.rows / (self.rows - 1)))
