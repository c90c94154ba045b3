"""How far work has come: one view, for a loop and for jobs side by side.

On a terminal rich's bar, the latest figures, and the history of one of them:

    train ━━━━━━━━━━━━━━──────────  58% 12,345 tokens/s 0:00:41
    loss 103.2  fvu 0.198  l0 39.4  dead 12
    loss 812 ▇▆▅▄▃▂▂▁▁▁▁▁▁▁ 103

Elsewhere a line now and then; nothing with `--quiet`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol, runtime_checkable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.constrain import Constrain
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from sae_cli.escaping import visible
from sae_cli.terminal import console
from sae_cli.terminal.sparkline import ASCII_BARS, BARS, Curve, named_curve

Field = float | int | str
"""A figure shown beside what is done."""

INTERVAL = 10.0
"""Seconds between two lines where stderr is no terminal."""
FIRST_ESTIMATE = 2.0
"""Seconds after which a loop before which nothing was estimated says how long it will take."""


@runtime_checkable
class Advance(Protocol):
    """Reports that `n` more units are done; `fields` are shown beside the bar (`loss=…, l0=…`)."""

    def __call__(self, n: int, **fields: Field) -> None: ...


class History:
    """The values of a figure from the beginning; of many, the means of as many neighbors as keeps them few."""

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
    figures: dict[str, str] = field(default_factory=dict[str, str])
    history: History = field(default_factory=History)
    ended: str = ""


class Board:
    """What is known about jobs that are done together.

    Args:
        title: what they do.
        rows: the jobs.
        drawn: the figure whose history is drawn; empty for none.
        unit: of what is done.

    Attributes:
        show: called when something has been done.
    """

    def __init__(self, title: str, rows: Mapping[int, Row], drawn: str = "", unit: str = "tokens") -> None:
        self.title, self.rows, self.drawn, self.unit = visible(title), dict(rows), drawn, unit
        self.show: Callable[[], None] | None = None

    def advance(self, number: int, n: int, figures: Mapping[str, Field]) -> None:
        """`n` more units of a job are done; `figures` are the latest ones, if there are new ones."""
        row = self.rows[number]
        row.done += n
        if figures:
            row.figures = {visible(name): _text_of(value) for name, value in figures.items()}
            if isinstance(value := figures.get(self.drawn), int | float):
                row.history.add(value)
        if self.show:
            self.show()

    def end(self, number: int, how: str) -> None:
        """A job has ended."""
        self.rows[number].ended = how

    @property
    def total(self) -> int:
        return sum(row.total for row in self.rows.values())

    @property
    def done(self) -> int:
        return sum(row.total if row.ended else row.done for row in self.rows.values())


@contextmanager
def progress(
    total: int, description: str, unit: str = "tokens", first: float = INTERVAL
) -> Generator[Advance, None, None]:
    """Shows how far a loop over `total` units has come, how fast it is and how long it will take.

    Args:
        total: units of the whole loop.
        description: what it does.
        unit: of what is done.
        first: seconds until the first line where nothing moves; later ones come every `INTERVAL`.
    """
    with board(description, {0: Row("", total)}, unit=unit, first=first) as shown:
        yield lambda n, **fields: shown.advance(0, n, fields)


@contextmanager
def board(
    title: str, rows: Mapping[int, Row], drawn: str = "", unit: str = "tokens", first: float = INTERVAL
) -> Generator[Board, None, None]:
    """Shows how far jobs are that are done together, their latest figures, and the history of one of these.

    Where nothing moves, plain lines; the figures only where there is one job.

    Args:
        title: what the jobs do.
        rows: the jobs.
        drawn: the figure whose history is drawn.
        unit: of what is done.
        first: seconds until the first line where nothing moves.
    """
    shown = Board(title, rows, drawn, unit)
    if console.is_quiet():
        yield shown
    elif console.moves():
        shown.show = (view := _View(shown)).show
        with _inside(_views[-1], view) if _views else _live(view):
            yield shown
    else:
        shown.show = _Lines(shown, first).show
        yield shown


_views: list[_View] = []
"""That is shown now; a loop within a loop has its bar below that one's."""


@contextmanager
def _live(view: _View) -> Generator[None, None, None]:
    _views.append(view)
    try:
        # stdout is left alone: what is written there is not for people.
        with Live(view, console=console.stderr(), refresh_per_second=4, transient=True, redirect_stdout=False):
            yield
    finally:
        _views.remove(view)


@contextmanager
def _inside(outer: _View, view: _View) -> Generator[None, None, None]:
    outer.inner.append(view)
    try:
        yield
    finally:
        outer.inner.remove(view)


class _Lines:
    """A line after `first` seconds, then at most one in `INTERVAL`, and one at the end of work that had any."""

    def __init__(self, shown: Board, first: float) -> None:
        self._board, self._wait, self._before = shown, first, shown.done
        self._start = self._last = time.monotonic()

    def show(self) -> None:
        now = time.monotonic()
        ended = self._board.done >= self._board.total and self._last > self._start
        if now - self._last >= self._wait or ended:
            self._last, self._wait = now, INTERVAL
            console.log(self._line(now - self._start))

    def _line(self, elapsed: float) -> str:
        board, left = self._board, self._board.total - self._board.done
        speed = (board.done - self._before) / elapsed if elapsed > 0 else 0.0
        duration = f"{_duration(left / speed)} left" if speed and left > 0 else ""
        figures = _joined(*board.rows.values()) if len(board.rows) == 1 else ""
        parts = (_share(board.done, board.total), _rate(speed, board.unit), duration, figures)
        return f"{board.title}: " + ", ".join(part for part in parts if part)


class _Rate(ProgressColumn):
    def __init__(self, unit: str, table_column: Column) -> None:
        super().__init__(table_column)
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text(_rate(task.speed or 0.0, self._unit))


class _View:
    """A bar for all jobs, and what is known of each below it; within the terminal's columns but the last, at which
    some begin a new line.

    Attributes:
        inner: of loops that run inside.
    """

    def __init__(self, shown: Board) -> None:
        self._board = shown
        self.inner: list[_View] = []
        column = Column(no_wrap=True, overflow="crop")
        self._bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=column),
            BarColumn(24),
            TaskProgressColumn(table_column=column),
            _Rate(shown.unit, table_column=column),
            TimeRemainingColumn(table_column=column),
            get_time=time.monotonic,
        )
        self._task = self._bar.add_task(shown.title, total=shown.total, completed=shown.done)

    def show(self) -> None:
        self._bar.update(self._task, completed=self._board.done)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = max(1, options.max_width - 1)
        for part in self._parts(width, ASCII_BARS if options.ascii_only else BARS):
            yield Constrain(part, width)

    def _parts(self, width: int, bars: str) -> Iterator[RenderableType]:
        yield self._bar.get_renderable()
        if len(self._board.rows) > 1:
            yield _table(self._board, width, bars)
        else:
            yield from self._of_one(next(iter(self._board.rows.values())), width, bars)
        for view in list(self.inner):
            yield from view._parts(width, bars)

    def _of_one(self, row: Row, width: int, bars: str) -> Iterator[RenderableType]:
        if row.figures:
            yield Text(_joined(row))
        if curve := named_curve(self._board.drawn, row.history.values, width, bars):
            yield Text(curve, no_wrap=True)


def _table(shown: Board, width: int, bars: str) -> Table:
    """A line a job: how far it is, its figures, and the curve."""
    rows = shown.rows.values()
    names = list(dict.fromkeys(name for row in rows for name in row.figures))
    table = Table(box=None, pad_edge=False, show_header=bool(names), header_style="")
    cut = "crop" if bars is ASCII_BARS else "ellipsis"
    table.add_column(max_width=width // 3, no_wrap=True, overflow=cut)
    for name in ["", *names]:
        table.add_column(Text(name), justify="right", no_wrap=True, overflow=cut)
    table.add_column(Text(shown.drawn), overflow="crop")  # not `no_wrap`, so it is the first that gets narrower
    for row in rows:
        cells = [row.name, row.ended or _share(row.done, row.total), *(row.figures.get(name, "") for name in names)]
        table.add_row(*map(Text, cells), Curve(row.history.values, bars))
    return table


def _text_of(value: Field) -> str:
    """A figure with four digits, or the text that it is."""
    return visible(value) if isinstance(value, str) else f"{value:.4g}"


def _joined(row: Row) -> str:
    return "  ".join(f"{name} {value}" for name, value in row.figures.items())


def _share(done: int, total: int) -> str:
    return f"{min(1.0, done / max(1, total)):.0%}"


def _rate(speed: float, unit: str) -> str:
    """`12,345 tokens/s`; nothing for no speed."""
    return f"{speed:,.0f} {unit}/s" if speed else ""


def _duration(seconds: float) -> str:
    """`0:41`, `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
