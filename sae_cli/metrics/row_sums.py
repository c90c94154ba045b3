"""Sums over rows of text, and figures of them with their standard errors.

Documents, not rows and not tokens, are the independent draws: rows of one document are alike. A figure is a function
of the totals, and its standard error comes from the differences between documents, by the delta method (CR1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch

from sae_cli.tensor_types import Float, Int, Tensor

OfTotals = Callable[[Mapping[str, Tensor]], Tensor]
"""A figure as a function of the totals by column."""

LEAST_DOCUMENTS = 8
"""Of fewer no standard error is given: it would be too uncertain itself."""
CONFIDENCE = 0.95
"""Of all intervals."""


class Estimate(NamedTuple):
    """A figure, its standard error, and its interval; None where it does not exist."""

    value: float | None
    se: float | None = None
    low: float | None = None
    high: float | None = None


NO_ESTIMATE = Estimate(None)


class RowPlaces(NamedTuple):
    """Which rows of a text: the document that most of each belongs to, and its number in the text."""

    document: Int[Tensor, " R"]
    number: Int[Tensor, " R"]

    def select(self, rows: Tensor) -> RowPlaces:
        """Some of the rows."""
        return RowPlaces(self.document[rows], self.number[rows])

    def then(self, other: RowPlaces) -> RowPlaces:
        """These rows, and the others after them."""
        return RowPlaces(torch.cat([self.document, other.document]), torch.cat([self.number, other.number]))


class SumsOfRows(NamedTuple):
    """The sums of some rows, float64 [B, C], and which rows these are."""

    values: Float[Tensor, "B C"]
    places: RowPlaces


class RowSums:
    """The sums of every row of text, kept row by row: two that were taken on the same rows can be paired.

    Args:
        columns: what is summed.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = tuple(columns)
        nothing = torch.zeros(0, len(self.columns), dtype=torch.float64)
        self._parts = [SumsOfRows(nothing, RowPlaces(*torch.zeros(2, 0, dtype=torch.int64)))]

    @classmethod
    def of(cls, places: RowPlaces, **columns: Float[Tensor, " R"]) -> RowSums:
        """The rows whose sums are these."""
        sums = cls(tuple(columns))
        sums.add(SumsOfRows(torch.stack(list(columns.values()), dim=1), places))
        return sums

    def add(self, seen: SumsOfRows) -> None:
        """Add rows."""
        self._parts.append(seen)

    def merge(self, other: RowSums) -> RowSums:
        """The rows of both parts."""
        assert self.columns == other.columns
        merged = RowSums(self.columns)
        merged._parts = [self._whole, other._whole]
        return merged

    def beside(self, other: RowSums) -> RowSums:
        """The same rows with the columns of both."""
        assert self.is_of_same_rows(other)
        both = RowSums((*self.columns, *other.columns))
        both.add(SumsOfRows(torch.cat([self.per_row, other.per_row], dim=1), self.places))
        return both

    def is_of_same_rows(self, other: RowSums) -> bool:
        """Whether both are sums of the same rows of text, in the same order."""
        return all(torch.equal(one, two) for one, two in zip(self.places, other.places, strict=True))

    def results(self) -> dict[str, float]:
        """The totals by column."""
        return dict(zip(self.columns, self.total.tolist(), strict=True))

    @property
    def _whole(self) -> SumsOfRows:
        if len(self._parts) > 1:
            values = torch.cat([each.values for each in self._parts])
            document, number = (torch.cat([each.places[i] for each in self._parts]) for i in range(2))
            self._parts = [SumsOfRows(values, RowPlaces(document, number))]
        return self._parts[0]

    @property
    def per_row(self) -> Float[Tensor, "R C"]:
        """The sums of each row."""
        return self._whole.values

    @property
    def places(self) -> RowPlaces:
        """Which rows these are."""
        return self._whole.places

    @property
    def rows(self) -> int:
        return len(self.per_row)

    @property
    def documents(self) -> int:
        """How many documents the rows are of."""
        return len(self.places.document.unique())

    @property
    def total(self) -> Float[Tensor, " C"]:
        return self.per_row.sum(dim=0)

    def column(self, name: str) -> Float[Tensor, " R"]:
        return self.per_row[:, self.columns.index(name)]

    def estimate(self, figure: OfTotals) -> Estimate:
        """A function of the totals, its standard error over documents, and its interval.

        Below `LEAST_DOCUMENTS` documents there is no error.
        """
        value, influence = self.influence(figure)
        if influence is None:
            return Estimate(value)
        return with_interval(value, standard_error(influence), len(influence) - 1)

    def influence(self, figure: OfTotals) -> tuple[float | None, Float[Tensor, " G"] | None]:
        """A function of the totals, and what each document adds to its difference from what it is of all texts:
        ∇g · Σ over the document's rows of (row - mean row), documents by their ids; None where there are too few."""
        total = self.total.clone().requires_grad_(True)
        value = figure(dict(zip(self.columns, total, strict=True)))
        if not torch.isfinite(value):
            return None, None
        if self.documents < LEAST_DOCUMENTS:
            return value.item(), None
        (gradient,) = torch.autograd.grad(value, total)
        of = gradient != 0  # what else is summed does not enter, not even its rounding
        difference = self.per_row[:, of] - self.total[of] / self.rows
        return value.item(), by_document(difference @ gradient[of], self.places.document)


def by_document(values: Float[Tensor, " R"], document: Int[Tensor, " R"]) -> Float[Tensor, " G"]:
    """The sum of the rows of each document, documents by their ids."""
    ids, of_row = document.unique(return_inverse=True)
    return torch.zeros(len(ids), dtype=values.dtype).index_add(0, of_row, values)


def standard_error(influence: Float[Tensor, " G"]) -> float:
    """√(G/(G-1) · Σψ²) of the influences of G documents (CR1: Liang & Zeger 1986)."""
    n = len(influence)
    return math.sqrt(float(influence.square().sum()) * n / (n - 1))


def with_interval(value: float | None, se: float, degrees: float) -> Estimate:
    """The figure with its interval, by Student's t with so many degrees of freedom."""
    if value is None:
        return NO_ESTIMATE
    half = t_quantile(degrees) * se
    return Estimate(value, se, value - half, value + half)


@lru_cache(4096)
def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """How many standard errors an interval reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + confidence) / 2))
