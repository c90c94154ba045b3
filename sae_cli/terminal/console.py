"""The one home of rich: all that people read, on stderr; stdout is left to machines.

Progress bars and colors where stderr is a terminal, plain lines where it is not, nothing but errors
with `--quiet`. Text may come from files and corpora, so nothing in it is read as markup, and what does not
print (control characters, line ends and tabs too) is shown as an escape, not sent to the terminal.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sae_cli.escaping import visible

_PLAIN_WIDTH = 160
"""Columns where stderr is no terminal."""
_SHADES = ("", *(f"on rgb({255 - step},{255 - step // 3},{255 - step}) black" for step in (30, 70, 110, 150, 190)))
"""Styles of words, from not marked at all to most strongly."""
_STRONG = 0.5


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
    stderr.cache_clear()
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
    stderr().print(Text.assemble("sae: ", ("error: ", "bold red"), visible(message)), soft_wrap=True)


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

    Where there are no colors, strong words are in brackets; the word that a line is about always is.
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
    strong = stderr().color_system is None and shade >= _STRONG
    text = f"⟦{text}⟧" if peak else f"[{text}]" if strong else text
    return text, f"{'bold ' * peak}{_SHADES[min(len(_SHADES) - 1, math.ceil(shade * (len(_SHADES) - 1)))]}"


def is_quiet() -> bool:
    """Whether errors only are shown."""
    return _settings.quiet


def moves() -> bool:
    """Whether stderr can show what changes in its place."""
    return _settings.live and stderr().is_terminal and not stderr().is_dumb_terminal


@cache
def stderr() -> Console:
    """Where it is all written."""
    # Where there is no terminal, rich assumes 80 columns and would fold paths.
    return Console(stderr=True, highlight=False, emoji=False, width=None if sys.stderr.isatty() else _PLAIN_WIDTH)


def _print(what: Text | Table) -> None:
    if not is_quiet():
        stderr().print(what, soft_wrap=isinstance(what, Text))
