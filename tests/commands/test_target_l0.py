"""A coefficient that is moved until L0 is what was asked for, from far above it and from far below."""

from __future__ import annotations

import json
import math

import pytest

from sae_cli.artifacts.stored_run import read_run
from sae_cli.training.l0_control import L0Control

SYNTHETIC = [
    *("data=synthetic", "data.d=32", "data.n_features=64", "data.mean_active=6", "dict_size=96", "tokens=160_000"),
    *("train.batch_size=64", "train.shuffle_buffer=8_192", "train.held_out_tokens=2_048"),
    *("train.held_out_every=5_000", "device=cpu"),
]


@pytest.mark.parametrize("architecture", ["relu", "gated"])
@pytest.mark.parametrize("l1", [0.02, 8.0])
def test_a_training_ends_at_its_target(sae, tmp_path, architecture, l1):
    """From a coefficient that alone leaves it far off."""
    settings = [f"sae={architecture}", f"l1={l1}", "train.target_l0=4", f"runs_dir={tmp_path}"]
    document = json.loads(sae("train", *SYNTHETIC, *settings, "--json").out)
    assert document["figures"]["l0"] == pytest.approx(4, rel=0.05)
    run = read_run(document["run"])
    moved = run.fact("l1_at_end", float)
    assert (moved > l1) if l1 < 1 else (moved < l1)
    lines = [json.loads(line) for line in (run.directory / "metrics.jsonl").read_text().splitlines()]
    main = [each for each in lines if each["phase"] != "decoder fit"]
    assert main[-2]["l1"] == pytest.approx(moved, rel=0.1)
    if architecture == "relu" and l1 < 1:
        refused = sae("prune-high-freq", run.directory, "top_n=2", "finetune_tokens=1_000", "finetune=all", code=2)
        assert "whose L1 coefficient is no setting; use finetune=decoder" in refused.err


def test_without_a_target_nothing_moves_and_nothing_is_stored():
    control = L0Control(None, 100)
    control.observe(50.0, 1.0, 0.5)
    assert control.factor == 1
    assert control.state() == {}
    control.restore({})


def test_a_move_is_as_large_as_the_logarithm_of_the_excess():
    control = L0Control(10.0, 1000)
    control.observe(20.0, 1.0, 0.5)
    assert math.log(control.factor) == pytest.approx(0.025 * math.log(2))
    control.observe(10.0, 0.5, 0.5)  # half of the penalty is there: L0 will fall to 5
    assert control.factor == pytest.approx(1)
    control.observe(1e9, 1.0, 0.5)
    assert math.log(control.factor) == pytest.approx(0.025)
    before = control.factor
    for rise, progress in ((0.1, 0.5), (1.0, 0.01), (1.0, 1.01)):
        control.observe(99.0, rise, progress)
    assert control.factor == before
    again = L0Control(10.0, 1000)
    again.restore(control.state())
    assert again.factor == pytest.approx(before)


REFUSED = {
    "sae=topk k=4": "sae=topk has no L1 coefficient to move; give k=",
    "sae=relu l1=0": "l1=0 is no coefficient to begin at; give l1=",
    "sae=relu dict_size=3": "expected at most dict_size=3",
}


@pytest.mark.parametrize("settings", REFUSED)
def test_refused(sae, tmp_path, settings):
    ended = sae("train", *SYNTHETIC[:4], *settings.split(), "train.target_l0=4", f"runs_dir={tmp_path}", code=2)
    assert REFUSED[settings] in ended.err
