"""stderr: plain where it is no terminal, and never at the mercy of the text that it shows."""

from __future__ import annotations

import io
import logging
import re
import sys

import pytest
from rich.console import Console

from sae_cli.terminal import console
from sae_cli.terminal.progress import Row, board, progress


def test_text_is_no_markup_and_controls_are_shown(capsys):
    console.log("[red]x[/red] \x1b[2J\x07 :smile: /a/path")
    assert capsys.readouterr().err == "[red]x[/red] \\x1b[2J\\x07 :smile: /a/path\n"


@pytest.mark.parametrize("show", [console.log, console.warn, console.error])
def test_a_message_is_one_line_that_hides_nothing(show, capsys):
    show("a\nb\tc\u202edef\u200b\u2028\ud800")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"a\nb\tc\u202edef\u200b\u2028\ud800")


def test_nothing_in_a_table_acts_on_the_terminal(capsys):
    console.table("t\x1b[2J", [("token", "\n\u202e\x07"), ("\u2066", "\r")], header=("\x9b31m", "\t"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.isprintable() for line in lines)
    assert r"\n\u202e\x07" in lines[2] and r"\x9b31m" in lines[1]


def test_nothing_in_progress_acts_on_the_terminal(capsys, monkeypatch):
    clock = iter([0.0, 11.0])
    monkeypatch.setattr("sae_cli.terminal.progress.time.monotonic", lambda: next(clock))
    with progress(20, "tr\x1bain") as advance:
        advance(10, token="\u202e")
    assert capsys.readouterr().err.splitlines() == [r"tr\x1bain: 50%, 1 tokens/s, 0:11 left, token \u202e"]


def test_long_lines_are_not_folded(capsys):
    console.log("x" * 500)
    console.error("y" * 500)
    assert capsys.readouterr().err.splitlines() == ["x" * 500, "sae: error: " + "y" * 500]


def test_quiet(capsys):
    console.configure(quiet=True)
    console.log("a")
    console.warn("b")
    console.table("t", [("c", "d")])
    with progress(10, "e") as advance:
        advance(10, loss=1.0)
    console.error("shown")
    assert capsys.readouterr().err == "sae: error: shown\n"


def test_table(capsys):
    console.table("title", [("label", "[b]value"), ("another", "2")], header=("name", "figure"))
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert lines == ["title", "name     figure", "label    [b]value", "another  2"]


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 11.0, 12.0, 20.0])
    monkeypatch.setattr("sae_cli.terminal.progress.time.monotonic", lambda: next(clock))
    with progress(2000, "train") as advance:
        advance(100, l0=3.0)
        advance(1000, l0=12.3456, dead="none")
        advance(100)
        advance(800)
    assert capsys.readouterr().err.splitlines() == [
        "train: 55%, 100 tokens/s, 0:09 left, l0 12.35  dead none",
        "train: 100%, 100 tokens/s, l0 12.35  dead none",
    ]


def test_a_short_loop_leaves_no_line(capsys):
    with progress(10, "x", unit="rows") as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_progress_bar_on_a_terminal(monkeypatch):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    with progress(10, "bar [x]") as advance:
        advance(4, loss=0.5)
        advance(2)
    assert "bar [x]" in screen.getvalue()
    assert "60%" in screen.getvalue()
    assert "loss 0.5" in screen.getvalue()


EXCERPTS = [
    console.Excerpt("1.5", ["a", "\n  ", "b\x1b[2J", " c"], [0.0, 0.6, 1.0, 0.2], peak=2, source="x\u202e.py"),
    console.Excerpt("10", ["<script>", "[red]"], [0.1, 0.9], peak=1, source="y"),
]


def test_excerpts_without_colors_mark_the_peak_and_strong_words(capsys):
    console.excerpts("title\x07", EXCERPTS)
    assert capsys.readouterr().err.splitlines() == [
        r"title\x07",
        r"  1.5  a[⏎  ]⟦b\x1b[2J⟧ c  x\u202e.py",
        "   10  <script>⟦[red]⟧  y",
    ]


def test_excerpts_on_a_terminal_are_shaded(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(
        console, "stderr", lambda: Console(file=shown, force_terminal=True, color_system="truecolor", width=80)
    )
    console.excerpts("title", EXCERPTS)
    assert shown.getvalue().count("48;2;65;192;65m") == 2 and "\x1b[2J" not in shown.getvalue()
    assert "⟦[red]⟧" in shown.getvalue() and "[⏎  ]" not in shown.getvalue()


def _on_a_terminal(monkeypatch, width):
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=width, legacy_windows=False, _environ={})
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    return screen


@pytest.mark.parametrize("width", [100, 40])
def test_a_board_on_a_terminal(monkeypatch, width):
    screen = _on_a_terminal(monkeypatch, width)
    with board("train", {0: Row("a", 100)}, "loss") as shown:
        for loss in (9.0, 5.0, 3.0):
            shown.advance(0, 20, {"loss": loss, "token": "\x1b[2J"})
        console.log("a line [in between]")
    text = screen.getvalue()
    assert "a line [in between]\n" in text and " 60%" in text
    assert r"loss 3  token \x1b[2J" in text and "\x1b[2J" not in text
    assert all(len(line) < width for line in re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", text).splitlines())


def test_a_board_without_a_terminal_is_lines(capsys, monkeypatch):
    clock = iter([0.0, 11.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with board("train", {0: Row("a", 2000, 1000)}, "loss") as shown:
        shown.advance(0, 550, {"loss": 12.3456, "dead": "0"})
    assert capsys.readouterr().err.splitlines() == ["train: 78%, 50 tokens/s, 0:09 left, loss 12.35  dead 0"]


def test_a_board_that_is_quiet(capsys):
    console.configure(quiet=True)
    with board("train", {0: Row("a", 10), 1: Row("b", 10)}, "loss") as shown:
        shown.advance(1, 10, {"loss": 1.0})
        shown.end(1, "done")
    assert capsys.readouterr().err == ""


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch):
    screen = _on_a_terminal(monkeypatch, 80)
    monkeypatch.setattr(Console, "is_dumb_terminal", True)
    with board("train", {0: Row("a", 10)}) as shown:
        shown.advance(0, 10, {"loss": 1.0})
    assert screen.getvalue() == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_is_for_libraries_too(quiet, sae, stage):
    def chatter(config):
        logger = logging.getLogger("some_library")
        logger.propagate = False  # as transformers and datasets, which have a handler of their own
        logger.addHandler(handler := logging.StreamHandler(sys.stderr))
        for level in (logging.INFO, logging.WARNING, logging.ERROR):
            logger.log(level, "level %s", level)
        logger.removeHandler(handler)

    stage.failing = chatter
    shown = sae("train", *["--quiet"] * quiet).err
    assert "level 40" in shown
    assert ("level 30" in shown) is not quiet
