"""The history of a figure in a line of bars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.text import Text

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
_CURVE, _LEAST_CURVE, _SMALL_CURVE = 60, 8, 24
"""Columns of the curve of a job: most, the fewest that it is drawn in, and most in a table of several."""


@dataclass
class Curve:
    """A sparkline in the columns that there are."""

    values: Sequence[float]
    bars: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(0, _SMALL_CURVE)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if options.max_width >= _LEAST_CURVE:
            yield Text(sparkline(self.values, min(_SMALL_CURVE, options.max_width), self.bars))


def sparkline(values: Sequence[float], columns: int, bars: str = BARS) -> str:
    """A curve in so many columns at most, each the mean of its share of the values; logarithmic if all are positive."""
    shown = list(_means(values, columns))
    if shown and min(shown) > 0:
        shown = [math.log(value) for value in shown]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    return "".join(bars[round((value - low) / (high - low or 1.0) * (len(bars) - 1))] for value in shown)


def _means(values: Sequence[float], columns: int) -> Iterator[float]:
    count = min(columns, len(values))
    for column in range(count):
        yield fmean(values[column * len(values) // count : (column + 1) * len(values) // count])


def named_curve(name: str, values: Sequence[float], width: int, bars: str) -> str:
    """`loss 812 ▇▆▅▄▃▂▁ 103`: from the first value to the latest; nothing where there is no room, or nothing yet."""
    if len(values) < 2:
        return ""
    first, last = f"{name} {values[0]:.4g} ", f" {values[-1]:.4g}"
    columns = min(_CURVE, width - len(first) - len(last))
    return "" if columns < _LEAST_CURVE else first + sparkline(values, columns, bars) + last
