"""Which model is as good as the one with a dictionary in it: a loss placed on a curve of reference models.

The curve is linear in the logarithm of size (parameters or training steps) between neighbouring references, and
does not exist outside of them: nothing is extrapolated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

WORSE, BETTER = "worse than all", "better than all"

# Relative: the same model by way of an identity has the same loss but for the last digits of float32.
_ROUNDING = 1e-6


class Point(NamedTuple):
    """A reference: its size, above 0, and its loss."""

    name: str
    size: float
    loss: float


class Bracket(NamedTuple):
    """Neighbours on the curve, and where between them a loss falls: `share` 0 at `below`, 1 at `above`."""

    below: Point
    above: Point
    share: float

    def size(self) -> float:
        """Log-linear between the neighbours."""
        low, high = math.log(self.below.size), math.log(self.above.size)
        return self.below.size if self.share == 0 else math.exp(low + self.share * (high - low))


class EquivalentModel(NamedTuple):
    """Where a loss falls on the curve.

    Attributes:
        value: the size of a reference with this loss; None outside the curve.
        low, high: the same for the loss one standard error higher and lower; None where that is outside.
        below, above: names of the neighbours that the value lies between.
        outside: `WORSE` or `BETTER` than all references, or None.
        monotone: whether a larger reference always has a lower loss.
    """

    value: float | None
    low: float | None
    high: float | None
    below: str | None
    above: str | None
    outside: str | None
    monotone: bool


def bracket(points: Sequence[Point], loss: float) -> Bracket | None:
    """The smallest neighbours on the curve that have the loss between them; None outside the curve."""
    curve = sorted(points, key=lambda point: point.size)
    for point in curve:
        if math.isclose(point.loss, loss, rel_tol=_ROUNDING):
            return Bracket(point, point, 0.0)
    for below, above in itertools.pairwise(curve):
        if min(below.loss, above.loss) < loss < max(below.loss, above.loss):
            return Bracket(below, above, (below.loss - loss) / (below.loss - above.loss))
    return None


def equivalent_model(points: Sequence[Point], loss: float, se: float | None) -> EquivalentModel:
    """The place of a loss on the curve of these references, with what one standard error makes of it."""
    curve = sorted(points, key=lambda point: point.size)
    found = bracket(curve, loss)
    worse = loss > max(point.loss for point in curve)
    return EquivalentModel(
        value=found.size() if found else None,
        low=_size(curve, loss, se),
        high=_size(curve, loss, None if se is None else -se),
        below=found.below.name if found else None,
        above=found.above.name if found else None,
        outside=None if found else WORSE if worse else BETTER,
        monotone=all(a.loss > b.loss for a, b in itertools.pairwise(curve)),
    )


def _size(curve: Sequence[Point], loss: float, change: float | None) -> float | None:
    found = None if change is None else bracket(curve, loss + change)
    return found.size() if found else None
