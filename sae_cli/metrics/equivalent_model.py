"""Which model is as good as the one with a dictionary in it: a loss placed on a curve of reference models.

The curve is linear in the logarithm of size (parameters or training steps) between neighboring references, and
does not exist outside of them: nothing is extrapolated. Only its falling part counts: a reference that is no better
than one that is not larger is left out, so that a size is a loss and a loss is a size. Where nothing falls, there is
no curve.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

WORSE, BETTER = "worse than all", "better than all"
WORSE_THAN_SMALLEST = "worse than the smallest"
"""But not than all: some of those that are left out are worse still."""
NO_CURVE = "no falling curve"
"""There are sizes, and no larger reference is better than the smallest."""

ROUNDING = 1e-6
"""Relative: the same model by way of an identity has the same loss but for the last digits of float32."""


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
        """Log-linear between the neighbors."""
        return self.below.size * (self.above.size / self.below.size) ** self.share


class EquivalentModel(NamedTuple):
    """Where a loss falls on the curve.

    Attributes:
        value: the size of a reference with this loss; None outside the curve.
        low, high: the same for the loss one standard error higher and lower, in this order; None where that is outside.
        below, above: names of the neighbors that the value lies between.
        outside: why there is no value: `WORSE`, `WORSE_THAN_SMALLEST`, `BETTER` or `NO_CURVE`; None where there is one.
        monotone: whether a larger reference always has a lower loss.
        left_out: names of the references that are no better than one that is not larger.
    """

    value: float | None
    low: float | None
    high: float | None
    below: str | None
    above: str | None
    outside: str | None
    monotone: bool
    left_out: tuple[str, ...]


def falling_part(points: Sequence[Point]) -> list[Point]:
    """The curve: by size, each better than all that are not larger; of one size, from the worst to the best."""
    curve: list[Point] = []
    for point in sorted(points, key=lambda point: (point.size, -point.loss)):
        if not curve or point.loss < curve[-1].loss:
            curve.append(point)
    return curve


def bracket(points: Sequence[Point], loss: float) -> Bracket | None:
    """The neighbors on the curve that have the loss between them; None outside the curve."""
    curve = falling_part(points)
    for point in curve:
        if math.isclose(point.loss, loss, rel_tol=ROUNDING):
            return Bracket(point, point, 0.0)
    for below, above in itertools.pairwise(curve):
        if above.loss < loss < below.loss:
            return Bracket(below, above, (below.loss - loss) / (below.loss - above.loss))
    return None


def equivalent_model(points: Sequence[Point], loss: float, se: float | None) -> EquivalentModel:
    """The place of a loss on the curve of these references, at least one, with what one standard error makes of it."""
    curve = falling_part(points)
    left_out = tuple(point.name for point in sorted(points, key=lambda point: point.size) if point not in curve)
    exists = len(curve) > 1 or not left_out
    found = bracket(curve, loss) if exists else None
    return EquivalentModel(
        value=found.size() if found else None,
        low=_size(curve, loss, se) if exists else None,
        high=_size(curve, loss, None if se is None else -se) if exists else None,
        below=found.below.name if found else None,
        above=found.above.name if found else None,
        outside=None if found else _why_not(points, curve, loss) if exists else NO_CURVE,
        monotone=not left_out and all(a.size < b.size for a, b in itertools.pairwise(curve)),
        left_out=left_out,
    )


def _why_not(points: Sequence[Point], curve: Sequence[Point], loss: float) -> str:
    if loss < curve[-1].loss:
        return BETTER
    return WORSE if loss > max(point.loss for point in points) else WORSE_THAN_SMALLEST


def _size(curve: Sequence[Point], loss: float, change: float | None) -> float | None:
    found = None if change is None else bracket(curve, loss + change)
    return found.size() if found else None
