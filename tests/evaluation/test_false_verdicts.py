"""Trainings of one recipe are seldom told apart: contrasts of dictionaries that differ by their seeds alone."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from sae_cli.artifacts.stored_run import read_run
from sae_cli.metrics.contrast import Verdict, corrected, difference
from sae_cli.metrics.language_loss import figures_of
from sae_cli.runs.row_files import read_rows

SEEDS, PAIRS = 12, 200
FIGURES: tuple[str, ...] = ("loss_recovered", "fvu", "ce_increase", "l0")
SMALL = ["model=demo-xs", "layer=1", "tokens=10_000", "dict_size=128", "train.held_out_tokens=2_048"]
MORE = ["train.shuffle_buffer=8_192", "sae=relu", "l1=1"]
TOLD = (Verdict.A_HIGHER, Verdict.B_HIGHER)


def sae(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "sae_cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The sums of every dictionary, all of the same recipe and text."""
    root = tmp_path_factory.mktemp("same")
    seeds = ",".join(map(str, range(SEEDS)))
    runs = sae("train", "-m", "hydra/launcher=shared", f"seed={seeds}", f"runs_dir={root}", *SMALL, *MORE)
    assert len(runs) == SEEDS
    sae("eval", "-m", f"run={','.join(runs)}", "eval.tokens=8_000", "features.tokens=2_000", "--quiet")
    return [read_rows(read_run(next((root / run / "eval").glob("*/")))) for run in runs]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_two_halves_of_one_recipe(rows, seeds):
    """Of 200 contrasts at most 5 % and two standard errors name one of them, of any of four figures."""
    rng, told = np.random.default_rng(seeds), 0
    for _ in range(PAIRS):
        drawn = rng.permutation(SEEDS)[: 2 * seeds]
        pairs = [(rows[a], rows[b]) for a, b in zip(drawn[:seeds], drawn[seeds:], strict=True)]
        figures = figures_of(pairs[0][0].columns)
        found = [difference(pairs, figures[key], 1e-9) for key in FIGURES]
        there = [each for each in found if each is not None]
        assert len(there) == len(FIGURES)
        told += any(each.verdict in TOLD for each in corrected(there))
    assert told <= PAIRS * (0.05 + 2 * (0.05 * 0.95 / PAIRS) ** 0.5), told
