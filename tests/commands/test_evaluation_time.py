"""How long an evaluation takes is said before it, and may be limited."""

from __future__ import annotations

import re
from typing import Any

import pytest

from sae_cli.commands import eval as evaluating
from sae_cli.commands import train
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.evaluation import Baseline, FeaturePassConfig, TimedEvaluationConfig
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation.read_in_step import ReadInStep
from sae_cli.evaluation.subject import make_subject
from sae_cli.evaluation.trial import Rates, Trial
from sae_cli.runs.dictionary_run import read_dictionary_run
from tests.known import document_of

TOKENS, FEATURES, CONTEXT = 600, 1200, 16


@pytest.fixture
def run(world, tmp_path):
    return train.run(world.train(tmp_path, tokens=512, dict_size=8), tmp_path / "a").directory


def config(run, minutes: float | None, **settings: Any) -> EvalConfig:
    wanted = {"features": FeaturePassConfig(tokens=FEATURES), "model_rows": 4, "device": "cpu"} | settings
    return EvalConfig(run=str(run), eval=TimedEvaluationConfig(tokens=TOKENS, minutes=minutes), **wanted)


@pytest.fixture
def known_rates(monkeypatch):
    """Of a machine that takes 10 ms a position for losses and 1 ms for features."""
    monkeypatch.setattr(Trial, "rates", lambda self, dictionary: Rates(losses=0.01, features=0.001))


def test_tokens_are_as_many_as_fit_in_proportion(run, known_rates, capsys):
    whole = (TOKENS + TOKENS // 8 + 1) * 0.01 + FEATURES * 0.001  # and a little for whole rows
    report = document_of(evaluating.run(config(run, whole / 2 / 60), run, "half"))["eval"]
    assert TOKENS * 0.45 <= report["tokens"] <= TOKENS / 2 + 4 * (CONTEXT - 1)
    said = re.search(r"eval\.minutes=\S+: (\d+) of 600 held-out tokens, and (\d+) of 1,200", capsys.readouterr().err)
    assert said is not None
    assert int(said[2]) == pytest.approx(2 * int(said[1]), abs=2)


def test_baselines_take_their_share(run, known_rates):
    one, two = (
        document_of(evaluating.run(config(run, 0.1, baselines=baselines), run, f"with{len(baselines)}"))["eval"]
        for baselines in ([], [Baseline.random])
    )
    assert two["tokens"] < 0.7 * one["tokens"]


def test_what_fits_is_not_cut(run, known_rates):
    report = document_of(evaluating.run(config(run, 60.0), run, "whole"))["eval"]
    assert report["tokens"] >= TOKENS


def test_the_same_command_finds_it_whatever_the_machine_does(run, known_rates, monkeypatch, capsys):
    first = document_of(evaluating.run(config(run, 0.05), run, "m"))
    monkeypatch.setattr(Trial, "rates", None)
    assert document_of(evaluating.run(config(run, 0.05), run, "m")) == first
    assert "already finished" in capsys.readouterr().err


def test_several_at_once_and_truths_refuse_it(run, tmp_path, world):
    with pytest.raises(ValueError, match=r"eval\.minutes=1 has no effect with run"):
        EvalConfig(run=["a", "b"], eval=TimedEvaluationConfig(minutes=1.0))
    truth = train.run(
        world.train(tmp_path, data=SyntheticData(d=16), tokens=512, dict_size=8), tmp_path / "t"
    ).directory
    with pytest.raises(RequestError, match=r"eval\.minutes has no effect"):
        evaluating.run(config(truth, 1.0), truth, "t")


def test_a_trial_times_real_work_and_the_model_only_once(run):
    """The second dictionary of a place has the model's passes of the first."""
    source = read_dictionary_run(run)
    subject = make_subject(source, None, 4, load_dictionary(source.run).W_dec.device)
    read = ReadInStep(subject, TimedEvaluationConfig(tokens=TOKENS), FeaturePassConfig(tokens=FEATURES))
    trial = read._trial
    assert trial is not None
    dictionary = load_dictionary(source.run)
    first, second = trial.rates(dictionary), trial.rates(dictionary)
    assert first.losses > second.losses > 0
    assert first.features > second.features > 0


def test_the_estimate_is_printed_where_it_is_worth_it(sae, run, monkeypatch):
    shown = sae("eval", str(run), "eval.tokens=200", "features.tokens=300", "device=cpu").err
    assert "time" not in re.findall(r"estimate: .*", shown)[-1]
    monkeypatch.setattr("sae_cli.evaluation.read_in_step.WORTH_TIMING", 400)
    monkeypatch.setattr(Trial, "rates", lambda self, dictionary: Rates(losses=1.0, features=1.0))
    shown = sae("eval", str(run), "eval.tokens=210", "features.tokens=300", "device=cpu").err
    assert re.search(r"estimate: .*time 9 min", shown), shown


def test_what_other_commands_ask_for_is_the_same_evaluation(sae, run, world):
    """They have no limit in time, and find what sae eval has left, and the other way round."""
    sae("eval", str(run), "eval.tokens=200", "features.tokens=300", "device=cpu")
    sae("prune-high-freq", str(run), "top_n=1", "eval.tokens=200", "features.tokens=300", "device=cpu")
    assert len(list((run / "eval").glob("*/manifest.json"))) == 1
