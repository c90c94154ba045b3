"""`sae plot`: what may be asked for; drawing is in tests/commands/test_plot.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sae_cli.commands import plot as stage
from sae_cli.commands.plot import Drawn, Kind


@pytest.fixture
def asked(monkeypatch):
    """What the stage was asked for; it draws nothing."""
    requests = []

    def run(request):
        requests.append(request)
        return Drawn(request.out, request.kind, [])

    monkeypatch.setattr(stage, "run", run)
    return requests


def test_runs_and_settings_in_any_order(sae, asked):
    ended = sae("plot", "kind=frontier", "runs/a", "out=x.svg", "runs/b", "columns=2", "eval=12ab")
    assert (ended.code, ended.out, ended.err) == (0, "x.svg\n", "")
    (request,) = asked
    assert (request.kind, request.columns, request.evaluation) == (Kind.frontier, 2, "12ab")
    assert request.runs == [Path("runs/a"), Path("runs/b")] and request.format == "svg"


def test_defaults(sae, asked):
    assert sae("plot", "runs/a", "kind=curve").out == "curve.pdf\n"
    assert (asked[0].columns, asked[0].evaluation) == (1, None)


def test_what_exists_is_a_run_even_with_an_equals_sign(sae, asked, folder):
    (folder / "l1=3").mkdir()
    assert sae("plot", "l1=3", "kind=curve").code == 0
    assert asked[0].runs == [Path("l1=3")]


def test_json_is_one_document(sae, asked):
    ended = sae("plot", "runs/a", "kind=curve", "--json")
    assert json.loads(ended.out) == {"file": "curve.pdf", "kind": "curve", "charts": []}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a"], "kind is missing: give kind=frequency|density3d|frontier|curve"),
        (["kind=curve"], "nothing to draw: give run directories, as commands print them"),
        (["a", "kind=frequncy"], "kind=frequncy: expected one of [frequency, density3d, frontier, curve]"),
        (["a", "kind=x"], "kind=x: expected one of [frequency, density3d, frontier, curve]"),
        (["a", "kind=curve", "columns=3"], "columns=3: expected one of [1, 2]"),
        (["a", "kind=curve", "colums=2"], "unknown key colums: did you mean columns?"),
        (["a", "kind=curve", "out=x.gif"], "out=x.gif: expected a name that ends with .pdf, .svg or .png"),
        (["a", "kind=curve", "kind=frontier"], "kind is given twice: kind=curve and kind=frontier"),
    ],
)
def test_wrong_requests(arguments, says, sae, asked):
    ended = sae("plot", *arguments)
    assert (ended.code, ended.out, ended.err) == (2, "", f"sae: error: {says}\n")
    assert not asked
