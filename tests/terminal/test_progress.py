"""The view of jobs at work: it fits, it says what is so, and it keeps little."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sae_cli.terminal import console
from sae_cli.terminal.progress import Board, History, Row, _View, board
from sae_cli.terminal.sparkline import sparkline

FIGURES = {"loss": 103.21, "fvu": "0.198", "l0": "39.4", "dead": "1,012"}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that are set by hand."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def seen(view, width, encoding="utf-8"):
    """The lines of a terminal with so many columns, and one more at the end."""
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    Console(file=screen, force_terminal=True, width=width + 1, legacy_windows=False, color_system=None).print(view)
    screen.flush()
    return [line.rstrip() for line in screen.buffer.getvalue().decode(encoding).splitlines()]


class Drawn(Board):
    """With the view of it."""

    def __init__(self, *rows):
        super().__init__("train", dict(enumerate(rows)), "loss")
        self.view = _View(self)
        self.show = self.view.show

    def lines(self, width, encoding="utf-8"):
        return seen(self.view, width, encoding)


def trained(clock, jobs=1, steps=40):
    shown = Drawn(*(Row(f"l1_{number}", 10_000) for number in range(jobs)))
    for step in range(steps):
        clock[0] += 1.0
        for number in range(jobs):
            shown.advance(number, 100, {**FIGURES, "loss": 800.0 / (step + 1) + number})
    return shown


@pytest.mark.parametrize("width", [79, 39])
def test_one_job(clock, width):
    """In 40 columns nothing is lost but some of the bar."""
    head, figures, curve = trained(clock).lines(width)
    assert head.startswith("train ━━") and head.endswith(" 40% 100 tokens/s 0:01:00")
    assert figures == "loss 20  fvu 0.198  l0 39.4  dead 1,012"
    assert curve.startswith("loss 800 █▇▆▅") and curve.endswith("▁▁▁ 20") and len(curve) == min(52, width)


def test_several_jobs_are_a_line_each(clock):
    shown = trained(clock, jobs=3)
    shown.end(1, "failed")
    head, *lines = shown.lines(79)
    assert [line.split()[:6] for line in lines if line] == [
        ["loss", "fvu", "l0", "dead", "loss"],
        ["l1_0", "40%", "20", "0.198", "39.4", "1,012"],
        ["l1_1", "failed", "21", "0.198", "39.4", "1,012"],
        ["l1_2", "40%", "22", "0.198", "39.4", "1,012"],
    ]
    assert all(line.endswith("▁") for line in lines[1:]) and "40%" in head


@pytest.mark.parametrize("jobs", [1, 5])
@pytest.mark.parametrize("width", [120, 79, 40, 39, 25, 5, 1])
def test_it_fits_and_is_ascii_where_it_must_be(clock, jobs, width):
    lines = trained(clock, jobs).lines(width, "ascii")
    assert lines and max(map(len, lines)) <= width
    assert width < 25 or len(lines) <= jobs + 4


def test_before_the_first_figures(clock):
    assert [line.split() for line in Drawn(Row("a", 100)).lines(79)] == [["train", "0%", "-:--:--"]]
    assert [line.split() for line in Drawn(Row("a", 100), Row("b", 100)).lines(79)[1:]] == [["a", "0%"], ["b", "0%"]]


def test_a_job_that_is_resumed_begins_where_it_was(clock):
    shown = Drawn(Row("a", 1000, 500, history=History([9.0, 8.0])))
    for loss in (7.5, 7.0):
        clock[0] += 5
        shown.advance(0, 50, {"loss": loss})
    assert shown.lines(60)[0].endswith(" 60% 10 tokens/s 0:00:40")
    assert shown.lines(60)[-1] == "loss 9 █▅▃▁ 7"


def test_what_does_not_print_is_shown(clock):
    shown = Drawn(Row("a\x1b", 10))
    shown.title = "tr\x1bain"
    shown.advance(0, 1, {"to\nken": "\u202e"})
    assert shown.lines(79)[1] == r"to\nken \u202e"
    assert Board("tr\x1bain", {}).title == r"tr\x1bain"


def test_what_is_shown_on_a_terminal_is_the_view(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=80, legacy_windows=False, _environ={})
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    with board("train", {0: Row("a", 100), 1: Row("b", 100)}, "loss") as shown:
        shown.advance(0, 50, {"loss": 3.0})
        shown.advance(1, 100, {"loss": 2.0})
        shown.end(1, "done")
    assert " 75%" in screen.getvalue() and "done" in screen.getvalue()


def test_a_long_history_is_kept_small_from_its_beginning():
    history = History([float(value) for value in range(100_000)])
    assert len(history.values) <= History.MOST
    assert history.values[0] < 500 and history.values[-1] > 99_000
    assert history.values == sorted(history.values)
    history.add(float("nan"))


def test_sparkline():
    assert sparkline([1, 10, 100], 8) == "▁▅█"  # logarithmic
    assert sparkline([-1, 0, 1], 8) == "▁▅█"
    assert sparkline([3, 3], 8) == "▁▁" and sparkline([], 8) == ""
    assert len(sparkline(range(1, 1000), 20)) == 20
