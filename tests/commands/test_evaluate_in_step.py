"""`sae eval -m … hydra/launcher=shared`: dictionaries of one place, measured in step, are what they are alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPTNeoXForCausalLM

from sae_cli.commands import eval as evaluating
from sae_cli.commands import prune_high_freq, train
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.evaluation import Baseline, EvaluationConfig, FeaturePassConfig
from sae_cli.runs.file_names import FEATURES_FILE, ROWS_FILE
from tests.known import document_of

SIZES: dict[str, Any] = {
    "device": "cpu",
    "eval": EvaluationConfig(tokens=300),
    "features": FeaturePassConfig(tokens=600),
    "model_rows": 4,
}


@pytest.fixture
def three(world, tmp_path):
    """Dictionaries of one place."""
    for name in "abc":
        train.run(world.train(tmp_path, tokens=512, dict_size=8, seed=ord(name)), tmp_path / name)
    return [tmp_path / name for name in "abc"]


@pytest.fixture
def passes(monkeypatch):
    """Rows that the model is run on, whole or from the middle, one pass each."""
    counted, forward = [], GPTNeoXForCausalLM.forward

    def seen(self, *given, **named):
        counted.append(len(named["input_ids"]))
        return forward(self, *given, **named)

    monkeypatch.setattr(GPTNeoXForCausalLM, "forward", seen)
    return counted


def asked(runs, **settings):
    return [EvalConfig(run=str(each), **SIZES | settings) for each in runs]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {**load_file(folder / FEATURES_FILE), **load_file(folder / ROWS_FILE)}


@pytest.mark.parametrize("beside", [[], [Baseline.token, Baseline.random]])
def test_each_is_what_it_is_alone_for_fewer_passes(three, passes, beside):
    configs = asked(three, baselines=beside)
    alone = [evaluating.run(config, each, "alone") for config, each in zip(configs, three, strict=True)]
    alone_for = sum(passes)
    passes.clear()
    requests = [(config, each, "together") for config, each in zip(configs, three, strict=True)]
    for each, one, other in zip(three, alone, evaluating.run_together(requests), strict=True):
        assert not isinstance(other, Exception)
        assert document_of(one)["eval"] == document_of(other)["eval"]
        one_by_one, in_step = (tensors_of(each / "eval" / name) for name in ("alone", "together"))
        assert one_by_one.keys() == in_step.keys()
        assert all(torch.equal(one_by_one[name], in_step[name]) for name in one_by_one)
    assert sum(passes) < (0.6 if not beside else 1.0) * alone_for


def test_constants_are_put_in_once_for_dictionaries_of_one_mean(three, passes):
    """Pruned ones have the mean of what they were pruned from: of 2 · 3 passes with constants 2 are left."""
    pruned = [PruneConfig(run=str(three[0]), top_n=n, **SIZES) for n in (1, 2, 3)]
    made = prune_high_freq.run_together([(each, three[0].parent / f"p{each.top_n}") for each in pruned])
    assert [document_of(each)["facts"]["killed"] for each in made if not isinstance(each, Exception)] == [1, 2, 3]
    runs = [three[0].parent / f"p{n}" for n in (1, 2, 3)]
    counts = {}
    for names in (runs[:1], runs):
        passes.clear()
        evaluating.run_together([(config, Path(str(config.run)), f"of{len(names)}") for config in asked(names)])
        counts[len(names)] = len(passes)
    # Alone: of 3 blocks of held-out rows a clean pass and one with x̂, 0 and x̄; more for the step of the code.
    blocks = -(-300 // (15 * 4))
    spared = counts[1] * 3 - counts[3]
    assert spared >= 2 * 3 * blocks


def test_other_texts_are_measured_one_after_another(three):
    configs = asked(three[:2]) + asked(three[2:], eval=EvaluationConfig(tokens=200))
    found = evaluating.run_together([(config, Path(str(config.run)), "x") for config in configs])
    tokens = [document_of(each)["eval"]["tokens"] for each in found if not isinstance(each, Exception)]
    assert tokens[0] == tokens[1] > tokens[2]


def test_one_that_fails_leaves_the_others(three, tmp_path):
    configs = asked([three[0], tmp_path / "none", three[1]])
    found = evaluating.run_together([(config, Path(str(config.run)), "x") for config in configs])
    assert [isinstance(each, Exception) for each in found] == [False, True, False]
    assert "none" in str(found[1])


def test_several_at_once_among_single_ones(three, world, tmp_path):
    other = train.run(world.train(tmp_path, tokens=512, dict_size=8, layer=0), tmp_path / "other").directory
    both = replace(asked(three)[0], run=[str(three[0]), str(other)], features=FeaturePassConfig())
    requests = [(asked(three)[0], three[0], "x"), (both, tmp_path / "both", "x")]
    found = evaluating.run_together(requests)
    assert [document_of(each)["command"] for each in found if not isinstance(each, Exception)] == ["eval", "eval"]


def test_in_a_sweep(sae, three):
    runs = ",".join(map(str, three))
    words = ("eval.tokens=100", "features.tokens=200", "device=cpu")
    shown = sae("eval", "-m", f"run={runs}", "hydra/launcher=shared", *words)
    assert shown.out.splitlines() == [str(each) for each in three]
    assert "3 jobs, side by side on one stream" in shown.err
