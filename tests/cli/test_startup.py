"""What starts quickly: help and completion import nothing heavy, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sae_cli import commands

HEAVY = ("torch", "transformers", "datasets", "numpy")


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sae_cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def imported(ended: subprocess.CompletedProcess[str]) -> set[str]:
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in ended.stderr.splitlines()}


def test_help_imports_no_hydra_and_nothing_heavy():
    ended = start("--help")
    assert ended.returncode == 0
    assert not imported(ended) & {*HEAVY, "hydra", "omegaconf", "rich"}


@pytest.mark.parametrize("command", ["train", "eval"])
def test_help_of_a_command_with_its_choices_imports_no_hydra_and_nothing_heavy(command):
    ended = start(command, "--help")
    assert "synthetic, synthsaebench16k, synthsaebench256, text" in " ".join(ended.stdout.split())
    assert not imported(ended) & {*HEAVY, "hydra", "rich"}


def test_printing_the_configuration_imports_nothing_heavy():
    ended = start("train", "--cfg", "job")
    assert "layer: 2" in ended.stdout
    assert not imported(ended) & {*HEAVY, "rich"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "model", "="], ["demo", "demo-s", "demo-xs", "demo-xxs", "demo-xxs-1"]),
        (["train", "model", "=", "gp"], ["gpt2"]),
        (["train", "l1", "=", "3", "lay"], ["layer=", "layer=2"]),
    ],
)
def test_completion_in_bash(words, expected):
    environment = {
        "_SAE_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(["sae", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = start(**environment)
    assert ended.stdout.split()[: len(expected)] == expected
    assert not imported(ended) & {*HEAVY, "rich"}


@pytest.mark.parametrize("words", [["train", "model", "="], ["train", "mod"], ["eval", ""]])
def test_completion_of_groups_and_their_options_is_quick(words):
    ended = start(_SAE_COMPLETE="complete_bash", COMP_WORDS="\n".join(["sae", *words]), COMP_CWORD=str(len(words)))
    assert ended.stdout.split()
    assert "hydra" not in imported(ended)


def test_completion_in_zsh():
    ended = start(_SAE_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="sae train layer=1 data=fi")
    assert '"data=fineweb"' in ended.stdout


@pytest.mark.parametrize("command", ["list", "resume", "verify"])
def test_looking_at_runs_imports_no_torch(command, tmp_path):
    ended = start(command, "--quiet", SAE_RUNS=str(tmp_path))
    assert not imported(ended) & {"torch", "transformers", "datasets"}


def test_a_command_imports_transformers_and_datasets_only_when_a_model_or_a_text_is_read():
    """A run that is found finished waits for neither."""
    names = ", ".join(f"sae_cli.commands.{each.stem}" for each in sorted(Path(commands.__path__[0]).glob("[!_]*.py")))
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {names}"], capture_output=True, text=True, check=True
    )
    assert "torch" in imported(ended)
    assert not imported(ended) & {"transformers", "datasets", "sklearn", "matplotlib", "pandas"}


LEAVES = """
import atexit, sys, threading, time
from sae_cli.cli.process_end import PromptExit
ending = PromptExit()
atexit.register(print, "handler")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
ending.code = 7
sys.exit(ending.code)
"""


def test_leaving_waits_for_threads_and_handlers():
    ended = subprocess.run([sys.executable, "-c", LEAVES], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "thread\nhandler\n", "")


def test_leaving_with_words_that_cannot_be_written():
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", LEAVES], stdout=full, stderr=subprocess.PIPE, env=buffered, check=False
        )
    assert ended.returncode == 120
    assert b"No space left" in ended.stderr


def test_leaving_with_a_stdout_that_is_closed():
    ended = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, LEAVES], stderr=subprocess.PIPE, check=False
    )
    assert (ended.returncode, ended.stderr) == (7, b"")


def test_a_command_whose_stdout_is_closed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    command = f'exec "$0" -m sae_cli list --quiet "{tmp_path}" >&-'
    ended = subprocess.run(["sh", "-c", command, sys.executable], stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
