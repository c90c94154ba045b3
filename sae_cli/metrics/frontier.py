"""A figure of dictionaries at the L0 of others, where none of them was trained at it: read off a curve through a sweep.

The curve of one seed is a least-squares fit in log L0 of the figure, monotone and without increasing returns: a figure
that is better higher rises and flattens as L0 grows, one that is better lower falls and flattens. Straight lines
between points would follow the noise of each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.metrics.contrast import Difference
from sae_cli.metrics.reconstruction_rows import l0
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS, OfTotals, RowSums, by_document
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Tensor

LEAST_POINTS = 6
"""Of fewer dictionaries there is no curve."""
_DRAWS = 200
"""Resamplings of the documents, for the error of what is read off curves."""


class Curve(NamedTuple):
    """A monotone function of log L0 without increasing returns, straight between its knots.

    Attributes:
        knots: ascending log L0 [K].
        start: at the first knot.
        bends: the fall of the slope at each of the others [K - 1].
        sign: 1 of what rises with L0, -1 of what falls.
    """

    knots: np.ndarray
    start: float
    bends: np.ndarray
    sign: int

    def at(self, x: float) -> float:
        """Its value at a log L0; outside the knots that at the nearest."""
        along = np.minimum(x, self.knots[1:]) - self.knots[0]
        return self.sign * (self.start + float(np.maximum(along, 0) @ self.bends))

    def has(self, x: float) -> bool:
        """Whether a log L0 is among the knots."""
        return bool(self.knots[0] <= x <= self.knots[-1])

    def mean(self, low: float, high: float) -> float:
        """Its mean from one log L0 to a higher one."""
        inside = self.knots[(self.knots > low) & (self.knots < high)]
        x = np.array([low, *inside, high])
        y = np.array([self.at(each) for each in x])
        return float(np.trapezoid(y, x) / (high - low)) if high > low else self.at(low)


def fitted(x: np.ndarray, y: np.ndarray, sign: int) -> Curve:
    """The curve nearest to points (log L0, figure), by least squares.

    Args:
        x, y: the points, float64, in any order.
        sign: 1 of a figure that rises with L0 and flattens, -1 of one that falls and flattens.
    """
    from scipy.optimize import nnls

    knots = np.unique(x)
    along = np.minimum(x[:, None], knots[None, 1:]) - knots[0]
    constant = np.ones((len(x), 1))
    found, _ = nnls(np.hstack([constant, -constant, along]), sign * y)
    return Curve(knots, float(found[0] - found[1]), found[2:], sign)


class OfSeed(NamedTuple):
    """The dictionaries of one seed: of A one, or a sweep; of B a sweep. All are of the same rows of text."""

    a: Sequence[RowSums]
    b: Sequence[RowSums]


def at_equal_l0(seeds: Sequence[OfSeed], figure: OfTotals, rises: bool, material: float) -> Difference | None:
    """The difference of a figure between A and the sweep B at the same L0; None where the figure does not exist, or
    the two have no L0 in common.

    Of one A: at its L0. Of a sweep A: the mean over the log L0 that both sweeps have. The error over documents is from
    resampling them, with every curve fitted again.

    Args:
        seeds: the dictionaries of each.
        figure: of the totals.
        rises: whether it is better higher, and so rises with L0.
        material: the size of a difference that matters.
    """
    sign = 1 if rises else -1
    once = torch.ones(1, seeds[0].b[0].documents, dtype=torch.float64)
    values = [_values(each, figure, sign, once, require=True) for each in seeds]
    found = [each[0] for each in values if each is not None]
    if len(found) < len(seeds):
        return None
    differences = torch.tensor([a - b for a, b in found], dtype=torch.float64)
    documents = once.shape[1]
    return Difference(
        a=sum(a for a, _ in found) / len(found),
        b=sum(b for _, b in found) / len(found),
        seeds=len(found),
        documents=documents,
        seed_se=float(differences.std()) / math.sqrt(len(found)) if len(found) > 1 else None,
        document_se=_resampled(seeds, figure, sign, documents) if documents >= LEAST_DOCUMENTS else None,
        material=material,
    )


def _resampled(seeds: Sequence[OfSeed], figure: OfTotals, sign: int, documents: int) -> float:
    """The standard deviation of the mean difference over resamplings of the documents."""
    numbers = generator("documents of a frontier", documents)
    drawn = torch.randint(documents, (_DRAWS, documents), generator=numbers)
    weights = torch.zeros(_DRAWS, documents, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones(drawn.shape, dtype=torch.float64)
    )
    of_seeds = [_values(each, figure, sign, weights, require=False) for each in seeds]
    differences = torch.tensor([[a - b for a, b in each] for each in of_seeds if each], dtype=torch.float64)
    return float(differences.mean(dim=0).std())


def _values(
    of_seed: OfSeed, figure: OfTotals, sign: int, weights: Float[Tensor, "W G"], require: bool
) -> list[tuple[float, float]] | None:
    """A's figure and that of the curve through B, with documents weighted in each of these ways; None where A is
    outside the curve, if that is required, or a figure is not finite."""
    (x_a, y_a), (x_b, y_b) = (_points(each, figure, weights) for each in of_seed)
    if not all(np.isfinite(each).all() for each in (x_a, y_a, x_b, y_b)):
        return None
    found: list[tuple[float, float]] = []
    for number in range(len(weights)):
        curve = fitted(x_b[number], y_b[number], sign)
        if len(of_seed.a) == 1:
            at = float(x_a[number, 0])
            if require and not curve.has(at):
                return None
            found.append((float(y_a[number, 0]), curve.at(at)))
            continue
        other = fitted(x_a[number], y_a[number], sign)
        low, high = (float(end) for end in (max(other.knots[0], curve.knots[0]), min(other.knots[-1], curve.knots[-1])))
        if high <= low:
            return None
        found.append((other.mean(low, high), curve.mean(low, high)))
    return found


def _points(sums: Sequence[RowSums], figure: OfTotals, weights: Float[Tensor, "W G"]) -> tuple[np.ndarray, np.ndarray]:
    """Log L0 and the figure of each dictionary [W, P]."""
    x, y = [], []
    for each in sums:
        columns = [by_document(each.column(name), each.places.document) for name in each.columns]
        totals = dict(zip(each.columns, (weights @ torch.stack(columns, dim=1)).T, strict=True))
        x.append(l0(totals).log())
        y.append(figure(totals))
    return torch.stack(x, dim=1).numpy(), torch.stack(y, dim=1).numpy()
