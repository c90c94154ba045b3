"""`sae features`: what is asked of the stage, and pages on the terminal."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.jobs.result import StageResult


@pytest.fixture
def called(monkeypatch):
    """What the stage and the display of pages are called with."""
    calls = []

    def run(config, directory, name):
        calls.append((config, str(directory), name))
        return StageResult(directory=directory, document={"sheets": f"{directory}/features/{name}"})

    for name, function in {
        "commands.features": ("run", run),
        "reports.feature_page": ("show", lambda *a: calls.append(a)),
    }.items():
        module = ModuleType(f"sae_cli.{name}")
        setattr(module, *function)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_a_bare_path_is_the_run_and_stdout_is_its_directory(sae, called):
    ended = sae("features", "runs/a", "only=[3,1]")
    ((config, directory, name),) = called
    assert isinstance(config, FeaturesConfig) and (config.run, config.only) == ("runs/a", [1, 3])
    assert directory == "runs/a" and name != "default"
    assert (ended.code, ended.out) == (0, "runs/a\n")


@pytest.mark.parametrize("words", [["--show", "3,17"], ["--show", "3", "--show", "17"], ["--show", "[3, 17]"]])
def test_pages_are_shown_when_they_are_made(words, sae, called):
    assert sae("features", "runs/a", *words).out == "runs/a\n"
    shown, features = called[1]
    assert str(shown) == "runs/a/features/default" and list(features) == [3, 17]


def test_several_runs(sae, called):
    ended = sae("features", "-m", "run=runs/a,runs/b")
    assert ended.out == "runs/a\nruns/b\n" and len(called) == 2
