"""The one home of rich: all that people read, on stderr; stdout is left to machines.

Progress bars and colours where stderr is a terminal, plain lines where it is not, nothing but errors
with `--quiet`. Text may come from files and corpora, so nothing in it is read as markup, and what does not
print (control characters, line ends and tabs too) is shown as an escape, not sent to the terminal.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Protocol, runtime_checkable

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sae_cli.escaping import visible
from sae_cli.terminal.board import Board, Field, Row, duration, rate

PLAIN_WIDTH = 160
PLAIN_INTERVAL = 10.0
"""Seconds between two lines of progress where stderr is no terminal."""

_SHADES = ("", *(f"on rgb({255 - step},{255 - step // 3},{255 - step}) black" for step in (30, 70, 110, 150, 190)))
"""Styles of words, from not marked at all to most strongly."""
_STRONG = 0.5
FIRST_ESTIMATE = 2.0
"""Seconds after which a loop before which nothing was estimated says how long it will take."""
REFRESHES = 4.0
"""Of the view of jobs, a second."""


@runtime_checkable
class Advance(Protocol):
    """Reports that `n` more units are done; `fields` are shown beside the bar (`loss=…, l0=…`)."""

    def __call__(self, n: int, **fields: Field) -> None: ...


@dataclass
class _Settings:
    quiet: bool = False
    live: bool = True


_settings = _Settings()


def configure(quiet: bool = False, live: bool = True) -> None:
    """Set how much is shown, once a process.

    Args:
        quiet: show errors only; of libraries too, whose log lines and warnings are dropped below that.
        live: allow moving progress bars; off in the workers of a sweep, which share one terminal.
    """
    _settings.quiet, _settings.live = quiet, live
    logging.disable(logging.WARNING if quiet else logging.NOTSET)
    logging.captureWarnings(quiet)
    _console.cache_clear()
    log_once.cache_clear()
    warn_once.cache_clear()


def log(message: str) -> None:
    """A line for the reader."""
    _print(Text(visible(message)))


def warn(message: str) -> None:
    """A line that should not be overlooked."""
    _print(Text.assemble(("warning: ", "yellow"), visible(message)))


@cache
def log_once(message: str) -> None:
    """A line that several jobs of one sweep would give; the first of them gives it."""
    log(message)


@cache
def warn_once(message: str) -> None:
    """A warning that several readers of one thing would give; the first of them gives it."""
    warn(message)


def error(message: str) -> None:
    """Why the command stops; shown even with `--quiet`."""
    _console().print(Text.assemble("sae: ", ("error: ", "bold red"), visible(message)), soft_wrap=True)


def table(title: str, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """A table; its columns are those of the longest row."""
    columns = max((len(row) for row in (header, *rows)), default=0)
    grid = Table(title=Text(visible(title)), title_justify="left", show_header=bool(header), box=None, pad_edge=False)
    for name in (*header, *[""] * (columns - len(header))):
        grid.add_column(Text(visible(name)), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(visible(cell)) for cell in row))
    _print(grid)


@dataclass(frozen=True)
class Excerpt:
    """A line of text from a corpus.

    Attributes:
        label: stands before it.
        words: the text, piece by piece.
        shades: how strongly each is marked, from 0 to 1.
        peak: number of the one that it is about.
        source: where it is from; stands after it.
    """

    label: str
    words: Sequence[str]
    shades: Sequence[float]
    peak: int
    source: str


def excerpts(title: str, lines: Sequence[Excerpt]) -> None:
    """A line for each: words on a background that is darker the stronger they are marked.

    Where there are no colours, strong words are in brackets; the word that a line is about always is.
    """
    _print(Text(visible(title), style="bold"))
    width = max((len(visible(each.label)) for each in lines), default=0)
    for each in lines:
        line = Text(f"  {visible(each.label):>{width}}  ")
        for number, (word, shade) in enumerate(zip(each.words, each.shades, strict=True)):
            line.append(*_word(word, shade, number == each.peak))
        line.append(f"  {visible(each.source)}", style="dim")
        _print(line)


def _word(word: str, shade: float, peak: bool) -> tuple[str, str]:
    """A word as it is shown, and its style."""
    text = visible(word.replace("\n", "⏎"))
    strong = _console().color_system is None and shade >= _STRONG
    text = f"⟦{text}⟧" if peak else f"[{text}]" if strong else text
    return text, f"{'bold ' * peak}{_SHADES[min(len(_SHADES) - 1, math.ceil(shade * (len(_SHADES) - 1)))]}"


@contextmanager
def progress(total: int, description: str, unit: str = "tokens", first: float = PLAIN_INTERVAL) -> Iterator[Advance]:
    """Shows how far a loop over `total` units has come, how fast it is and how long it will take.

    Args:
        total: units of the whole loop.
        description: what it does.
        unit: of what is done.
        first: seconds until the first line where nothing moves; later ones come every `PLAIN_INTERVAL`.
    """
    if _settings.quiet:
        yield lambda n, **fields: None
    elif _moves():
        with _bar() as bar:
            yield _advance_bar(bar, total, description, unit)
    else:
        yield _PlainProgress(total, description, unit, first).advance


@contextmanager
def board(title: str, rows: Mapping[int, Row], drawn: str = "", unit: str = "tokens") -> Iterator[Board]:
    """Shows how far jobs are that go on together, their latest figures, and the history of one of these.

    Where nothing moves, plain lines; the figures only where there is one job.

    Args:
        title: what the jobs do.
        rows: the jobs.
        drawn: the figure whose history is drawn.
        unit: of what is done.
    """
    if _settings.quiet:
        yield Board(title, rows, drawn, unit)
    elif _moves():
        # stdout is left alone: what is written there is not for people.
        view = _View(shown := Board(title, rows, drawn, unit))
        moving = Live(view, console=_console(), refresh_per_second=REFRESHES, transient=True, redirect_stdout=False)
        with moving:
            yield shown
    else:
        yield _PlainBoard(title, rows, drawn, unit)


def _moves() -> bool:
    """Whether stderr can show what changes in its place."""
    return _settings.live and _console().is_terminal and not _console().is_dumb_terminal


@cache
def _console() -> Console:
    # Where there is no terminal, rich assumes 80 columns and would fold paths.
    return Console(stderr=True, highlight=False, emoji=False, width=None if sys.stderr.isatty() else PLAIN_WIDTH)


def _print(what: Text | Table) -> None:
    if not _settings.quiet:
        _console().print(what, soft_wrap=isinstance(what, Text))


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}", markup=False),
    )
    return Progress(*columns, console=_console(), transient=True)


def _advance_bar(bar: Progress, total: int, description: str, unit: str) -> Advance:
    task_id = bar.add_task(visible(description), total=total, rate="", shown="")
    task = bar.tasks[0]

    def advance(n: int, **fields: Field) -> None:
        shown = visible(_fields(fields)) or task.fields["shown"]
        bar.update(task_id, advance=n, rate=rate(task.speed or 0.0, unit), shown=shown)

    return advance


class _View:
    """A board as rich draws it: at the width that the terminal has at that moment, but for its last column, at which
    some begin a new line."""

    def __init__(self, shown: Board) -> None:
        self._board = shown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self._board.lines(max(1, options.max_width - 1), options.ascii_only):
            yield Text(line, no_wrap=True, overflow="crop")


class _PlainBoard(Board):
    """A board that is seen as the lines of `_PlainProgress`."""

    def __init__(self, title: str, rows: Mapping[int, Row], drawn: str, unit: str) -> None:
        super().__init__(title, rows, drawn, unit)
        self._plain = _PlainProgress(sum(row.total - row.done for row in rows.values()), title, unit)

    def advance(self, number: int, n: int, figures: Mapping[str, Field]) -> None:
        self._plain.advance(n, **(figures if len(self.rows) == 1 else {}))


class _PlainProgress:
    """Lines instead of a bar: one after `first` seconds, then at most one in `PLAIN_INTERVAL`, and one at the end of a
    loop that had any."""

    def __init__(self, total: int, description: str, unit: str, first: float = PLAIN_INTERVAL) -> None:
        self.total, self.description, self.unit = total, description, unit
        self._wait = first
        self.done = 0
        self.fields: dict[str, Field] = {}
        self.start = self.last = time.monotonic()

    def advance(self, n: int, **fields: Field) -> None:
        self.done += n
        self.fields = fields or self.fields
        now = time.monotonic()
        ended = self.done >= self.total and self.last > self.start
        if now - self.last >= self._wait or ended:
            self.last, self._wait = now, PLAIN_INTERVAL
            log(self._line(now - self.start))

    def _line(self, elapsed: float) -> str:
        speed = self.done / elapsed if elapsed > 0 else 0.0
        share = f"{min(1.0, self.done / max(1, self.total)):.0%}"
        left = f"{duration((self.total - self.done) / speed)} left" if speed and self.done < self.total else ""
        parts = (share, rate(speed, self.unit), left, _fields(self.fields))
        return f"{self.description}: " + ", ".join(part for part in parts if part)


def _fields(fields: dict[str, Field]) -> str:
    return "  ".join(f"{name} {value if isinstance(value, str) else f'{value:.4g}'}" for name, value in fields.items())
