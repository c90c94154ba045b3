"""Jobs at work as a few lines of text that fit a terminal of any width; no more than layout, which console.py shows.

train ━━━━━━━━━━━━━━──────────   58%  12,345 tokens/s  0:41 left
loss 103.2  fvu 0.198  l0 39.4  dead 12
loss 812 ▇▆▅▄▃▂▂▁▁▁▁▁▁▁ 103
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from sae_cli.escaping import visible

Field = float | int | str
"""A figure shown beside what is done."""

_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-~=+*#"
_BAR, _LEAST_BAR, _CURVE, _LEAST_CURVE = 24, 6, 60, 8
"""Columns of the bar and of the curve: most, and the fewest that they are drawn in."""
_NAME = 1 / 3
"""Share of the width that the names of several jobs may take."""
_WINDOW = 30
"""Seconds over which speed is measured."""


class History:
    """The values of a figure from the beginning; of many, the means of as many neighbours as keeps them few."""

    MOST = 512

    def __init__(self, values: Sequence[float] = ()) -> None:
        self.values: list[float] = []
        self._open: list[float] = []
        self._each = 1
        for value in values:
            self.add(value)

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            return
        self._open.append(value)
        if len(self._open) == self._each:
            self.values.append(fmean(self._open))
            self._open.clear()
        if len(self.values) == self.MOST:
            self.values = [fmean(self.values[first : first + 2]) for first in range(0, self.MOST, 2)]
            self._each *= 2


@dataclass
class Row:
    """A job.

    Attributes:
        name: what tells it from others.
        total: units that it takes.
        done: of them.
        figures: the latest ones, as text.
        history: of the figure that is drawn.
        ended: how, once it has.
    """

    name: str
    total: int
    done: int = 0
    figures: dict[str, str] = field(default_factory=dict)
    history: History = field(default_factory=History)
    ended: str = ""

    @property
    def share(self) -> str:
        return self.ended or f"{min(1.0, self.done / max(1, self.total)):.0%}"


class Board:
    """What is known about jobs that go on together.

    Args:
        title: what they do.
        rows: the jobs.
        drawn: the figure whose history is drawn; empty for none.
        unit: of what is done.
    """

    def __init__(self, title: str, rows: Mapping[int, Row], drawn: str = "", unit: str = "tokens") -> None:
        self.title, self.rows, self.drawn, self.unit = visible(title), dict(rows), drawn, unit
        self._pace = deque([(time.monotonic(), self._done())], maxlen=_WINDOW + 1)

    def advance(self, number: int, n: int, figures: Mapping[str, Field]) -> None:
        """`n` more units of a job are done; `figures` are the latest ones, if there are new ones."""
        row = self.rows[number]
        row.done += n
        if figures:
            row.figures = {visible(name): text_of(value) for name, value in figures.items()}
            if isinstance(value := figures.get(self.drawn), int | float):
                row.history.add(value)
        if (now := time.monotonic()) - self._pace[-1][0] >= 1:
            self._pace.append((now, self._done()))

    def end(self, number: int, how: str) -> None:
        """A job has come to its end."""
        self.rows[number].ended = how

    def lines(self, width: int, ascii_only: bool = False) -> list[str]:
        """The view in so many columns."""
        rows = list(self.rows.values())
        bars = _ASCII_BARS if ascii_only else _BARS
        if len(rows) > 1:
            return [self._head(width, ascii_only), *_table(rows, self.drawn, width, bars)]
        figures = [f"{name} {value}" for name, value in rows[0].figures.items()]
        curve = _named_curve(self.drawn, rows[0].history.values, width, bars)
        return [self._head(width, ascii_only), *_filled(figures, width), *([curve] if curve else [])]

    def _head(self, width: int, ascii_only: bool) -> str:
        """What is done, how fast, and how long the rest will take; in few columns without the bar and the speed."""
        total = sum(row.total for row in self.rows.values())
        share, speed = min(1.0, self._done() / max(1, total)), self._speed()
        left = f"{duration((total - self._done()) / speed)} left" if speed and share < 1 else ""
        parts = [f"{share:4.0%}", rate(speed, self.unit), left]
        tail = "  ".join(part for part in parts if part)
        if len(self.title) + 1 + len(tail) > width:
            tail = "  ".join(part for part in (parts[0], left) if part)
        columns = min(_BAR, width - len(self.title) - len(tail) - 3)
        if columns < _LEAST_BAR:
            return f"{self.title} {tail}"
        done, rest = "#-" if ascii_only else "━─"
        filled = round(share * columns)
        return f"{self.title} {done * filled}{rest * (columns - filled)} {tail}"

    def _done(self) -> int:
        return sum(row.total if row.ended else row.done for row in self.rows.values())

    def _speed(self) -> float:
        (since, before), now = self._pace[0], time.monotonic()
        return (self._done() - before) / (now - since) if now > since else 0.0


def text_of(value: Field) -> str:
    """A figure with four digits, or the text that it is."""
    return visible(value) if isinstance(value, str) else f"{value:.4g}"


def rate(speed: float, unit: str) -> str:
    """`12,345 tokens/s`; nothing for no speed."""
    return f"{speed:,.0f} {unit}/s" if speed else ""


def duration(seconds: float) -> str:
    """`0:41`, `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def sparkline(values: Sequence[float], columns: int, bars: str = _BARS) -> str:
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


def _filled(words: Sequence[str], width: int) -> list[str]:
    """The words in as few lines as hold them, two spaces between two."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + 2 + len(word) <= width:
            lines[-1] += f"  {word}"
        else:
            lines.append(word)
    return lines


def _named_curve(name: str, values: Sequence[float], width: int, bars: str) -> str:
    """`loss 812 ▇▆▅▄▃▂▁ 103`: from the first value to the latest; nothing where there is no room, or nothing yet."""
    if len(values) < 2:
        return ""
    first, last = f"{name} {values[0]:.4g} ", f" {values[-1]:.4g}"
    columns = min(_CURVE, width - len(first) - len(last))
    return "" if columns < _LEAST_CURVE else first + sparkline(values, columns, bars) + last


def _table(rows: Sequence[Row], drawn: str, width: int, bars: str) -> list[str]:
    """A line a job: the figures that there is room for, and in what is left of the width its curve."""
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    columns = [_column("", [row.name for row in rows], int(width * _NAME), "<")]
    columns.append(_column("", [row.share for row in rows], width, ">"))
    for name in names:
        column = _column(name, [row.figures.get(name, "") for row in rows], width, ">")
        if sum(len(each[0]) + 2 for each in [*columns, column]) - 2 <= width:
            columns.append(column)
    room = min(_BAR, width - sum(len(each[0]) + 2 for each in columns))
    if room >= _LEAST_CURVE and any(row.history.values for row in rows):
        columns.append([drawn[:room], *(sparkline(row.history.values, room, bars) for row in rows)])
    lines = ["  ".join(cells).rstrip() for cells in zip(*columns, strict=True)]
    return lines if lines[0] else lines[1:]


def _column(head: str, cells: Sequence[str], most: int, aligned: str) -> list[str]:
    size = min(most, max(len(cell) for cell in (head, *cells)))
    cut = [cell if len(cell) <= size else cell[: max(0, size - 1)] + "…"[:size] for cell in (head, *cells)]
    return [f"{cell:{aligned}{size}}" for cell in cut]
