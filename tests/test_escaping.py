"""Text of strangers on a terminal: one line, and nothing in it that is obeyed or hidden."""

import pytest

from sae_cli.errors import Interrupted, JobError, RequestError
from sae_cli.escaping import brief, visible


@pytest.mark.parametrize("text", ["", "plain text", "größer · 日本語 · 😀 · é", r"a\nb"])
def test_what_prints_stays(text):
    assert visible(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x7f\x85\x9b31m", r"\x7f\x85\x9b31m"),
        ("user\u202egpj.exe", r"user\u202egpj.exe"),
        ("\u2066\u2069\u200e\u200f\u061c", r"\u2066\u2069\u200e\u200f\u061c"),
        ("a\u200bb\u200d\u2060\ufeff\u00ad", r"a\u200bb\u200d\u2060\ufeff\xad"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800 \udfff", r"\ud800 \udfff"),
        ("\U000e0041\ue000", r"\U000e0041\ue000"),
        ("\xa0\u3000", r"\xa0\u3000"),
    ],
)
def test_what_does_not_print_is_shown(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown
    shown.encode()


def test_every_code_point_can_be_shown():
    for start in range(0, 0x110000, 0x1000):
        shown = visible("".join(map(chr, range(start, start + 0x1000))))
        assert shown.isprintable()
        shown.encode()


def test_what_is_long_is_cut():
    assert brief("x" * 200) == "x" * 200
    assert brief("x" * 201) == "x" * 200 + "…"
    assert brief("\x1b" * 9, most=2) == r"\x1b\x1b…"


@pytest.mark.parametrize("kind", [JobError, RequestError, lambda text: Interrupted(text, 2)])
def test_an_error_is_one_line(kind):
    assert str(kind("runs/a\nb\x1b[2J: damaged")) == r"runs/a\nb\x1b[2J: damaged"
