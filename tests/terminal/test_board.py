"""The view of jobs at work: it fits, it says what is so, and it keeps little."""

from __future__ import annotations

import pytest

from sae_cli.terminal.board import Board, History, Row, sparkline

FIGURES = {"loss": 103.21, "fvu": "0.198", "l0": "39.4", "dead": "1,012"}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that are set by hand."""
    now = [0.0]
    monkeypatch.setattr("sae_cli.terminal.board.time.monotonic", lambda: now[0])
    return now


def trained(clock, jobs=1, steps=40):
    board = Board("train", {number: Row(f"l1_{number}", 10_000) for number in range(jobs)}, "loss")
    for step in range(steps):
        clock[0] += 1.0
        for number in range(jobs):
            board.advance(number, 100, {**FIGURES, "loss": 800.0 / (step + 1) + number})
    return board


def test_one_job(clock):
    assert trained(clock).lines(79) == [
        "train ━━━━━━━━━━──────────────  40%  100 tokens/s  1:00 left",
        "loss 20  fvu 0.198  l0 39.4  dead 1,012",
        "loss 800 █▇▆▅▅▅▄▄▄▄▃▃▃▃▃▃▃▃▂▂▂▂▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁ 20",
    ]


def test_in_40_columns_nothing_is_lost_but_the_bar(clock):
    assert trained(clock).lines(39) == [
        "train  40%  100 tokens/s  1:00 left",
        "loss 20  fvu 0.198  l0 39.4  dead 1,012",
        "loss 800 █▇▆▅▄▄▄▃▃▃▃▃▂▂▂▂▂▂▂▂▁▁▁▁▁▁▁ 20",
    ]


def test_several_jobs_are_a_line_each(clock):
    board = trained(clock, jobs=3)
    board.end(1, "failed")
    lines = board.lines(79)
    assert [line.split()[:6] for line in lines[1:]] == [
        ["loss", "fvu", "l0", "dead", "loss"],
        ["l1_0", "40%", "20", "0.198", "39.4", "1,012"],
        ["l1_1", "failed", "21", "0.198", "39.4", "1,012"],
        ["l1_2", "40%", "22", "0.198", "39.4", "1,012"],
    ]
    assert all(line.endswith("▁") for line in lines[2:])
    assert lines[0].startswith("train ━━━━━━━━━━━━━━────────── ")


@pytest.mark.parametrize("jobs", [1, 5])
@pytest.mark.parametrize("width", [120, 79, 40, 39, 25])
def test_it_fits_and_is_ascii_where_it_must_be(clock, jobs, width):
    lines = trained(clock, jobs).lines(width, ascii_only=True)
    assert max(map(len, lines)) <= width and all(map(str.isascii, lines))
    assert len(lines) <= jobs + 4


@pytest.mark.parametrize("width", [1, 5, 12])
def test_no_width_is_too_little(clock, width):
    assert trained(clock, 2).lines(width) and trained(clock).lines(width)


def test_before_the_first_figures(clock):
    assert Board("train", {0: Row("a", 100)}, "loss").lines(79) == ["train ────────────────────────   0%"]
    several = Board("train", {0: Row("a", 100), 1: Row("b", 100)}, "loss")
    assert several.lines(79)[1:] == ["a  0%", "b  0%"]


def test_a_job_that_is_gone_on_with_begins_where_it_was(clock):
    board = Board("train", {0: Row("a", 1000, 500, history=History([9.0, 8.0]))}, "loss")
    clock[0] += 10
    board.advance(0, 100, {"loss": 7.0})
    assert board.lines(60)[0].endswith(" 60%  10 tokens/s  0:40 left")
    assert board.lines(60)[-1] == "loss 9 █▅▁ 7"


def test_what_does_not_print_is_shown(clock):
    board = Board("tr\x1bain", {0: Row("a", 10)})
    board.advance(0, 1, {"to\nken": "\u202e"})
    assert board.lines(79)[1] == r"to\nken \u202e" and board.title == r"tr\x1bain"


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
