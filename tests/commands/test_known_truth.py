"""Dictionaries of a known truth, as the commands train, stop, measure and compare them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from sae_cli.activations.known_truths import truth_of
from sae_cli.activations.synthsaebench import BenchActivations
from sae_cli.cli.plan import make_plan
from sae_cli.cli.request import Request
from sae_cli.commands import compare, features, harvest, train
from sae_cli.commands import eval as evaluate
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.config.data import BenchData, CompositionalData, SyntheticData
from sae_cli.config.evaluation import Baseline, EvaluationConfig, FeaturePassConfig, Sample
from sae_cli.errors import Interrupted, RequestError
from sae_cli.metrics.truth import mcc
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.terminal import interruption
from sae_cli.training.trainer import Trainer
from tests.known import document_of

SIZES = {"eval": EvaluationConfig(tokens=6000), "features": FeaturePassConfig(tokens=9000)}
SMALL = BenchData(d=64, n_features=256, roots=2)
ORTHOGONAL = BenchData(d=64, n_features=42, roots=2, depth=2, least_frequent=5e-3)
TRUTHS = {
    "synthetic": SyntheticData(d=16, n_features=20, mean_active=2.0),
    "synthsaebench256": SMALL,
    "compositional": CompositionalData(d=32, n_objects=30, slots=3, values=4),
}


def report_of(result):
    return document_of(result)["eval"]


def oracle(data, threshold=1e-3):
    """An encoder that reads the codes off orthogonal directions, and a decoder that writes them."""
    truth = truth_of(data)
    W, bias = truth.directions(), truth.bias() if isinstance(truth, BenchActivations) else torch.zeros(data.d)
    return {"W_enc": W, "b_enc": torch.full((len(W),), -threshold), "W_dec": W, "b_dec": bias, "activation_mean": bias}


def test_a_dictionary_of_the_truth_scores_one(world, tmp_path):
    world.install(tmp_path / "run", oracle(ORTHOGONAL), data=ORTHOGONAL)
    report = report_of(evaluate.run(world.eval(tmp_path / "run", **SIZES), tmp_path / "run"))
    for key in ("precision", "recall", "f1", "truth_recall", "truth_recall_weighted"):
        assert report[key] == report[f"{key}_low"] == report[f"{key}_high"] == 1.0, key
    assert report["uniqueness"] == report["truth_recovered_0.9"] == 1.0
    assert report["mcc"] == pytest.approx(1, abs=1e-6)
    assert report["mmcs_truth_to_dictionary"] == pytest.approx(1, abs=1e-6)
    assert report["truth_l0"] == report["l0"] and report["truth_fired"] == 42
    assert report["fvu"] < 1e-6


@pytest.mark.parametrize("name", TRUTHS)
def test_every_source_is_trained_on_evaluated_and_compared(world, tmp_path, name):
    config = world.train(tmp_path, data=TRUTHS[name])
    train.run(config, tmp_path / "run")
    report = report_of(evaluate.run(world.eval(tmp_path / "run", **SIZES), tmp_path / "run"))
    directions = truth_of(TRUTHS[name]).directions()
    W_dec = train_rows(tmp_path / "run")
    assert report["mcc"] == pytest.approx(mcc(W_dec, directions)) and 0 < report["mcc"] < 1
    assert report["f1_low"] < report["f1"] < report["f1_high"]
    assert report["truth_l0"] == pytest.approx(float(truth_of(TRUTHS[name]).frequencies().sum()), rel=0.05)
    comparing = CompareConfig(a=str(tmp_path / "run"), b=["truth"], runs_dir=str(tmp_path), device="cpu", **SIZES)
    compared = document_of(compare.run(comparing, tmp_path / "compare"))["compare"]
    assert compared["runs"][1]["features"] == len(directions)
    assert compared["pairs"][0]["b_to_a"]["mmcs"] == pytest.approx(report["mmcs_truth_to_dictionary"], abs=1e-6)


def train_rows(directory):
    from sae_cli.dictionaries.files import load_dictionary

    return load_dictionary(read_dictionary_run(directory).run).W_dec


def test_bases_are_measured_beside_the_dictionary(world, tmp_path):
    world.install(tmp_path / "run", oracle(ORTHOGONAL), data=ORTHOGONAL)
    asked = [Baseline.neurons, Baseline.random, Baseline.pca]
    settings = world.eval(tmp_path / "run", baselines=asked, **SIZES)
    result = evaluate.run(settings, tmp_path / "run", "b")
    found = report_of(result)["baselines"]
    assert found.keys() == {"neurons", "random", "pca"}
    for each in found.values():
        assert not any(key.startswith(("ce_", "loss", "recovered", "token")) for key in each)
        assert 0 < each["mcc"] < 0.9 and each["f1"] < 0.9 and each["fvu"] > 0 and each["uniqueness"] <= 0.5
        assert each["f1_se"] > 0 and each["truth_recall_weighted"] < 1
    shown = {row[0]: row[1] for row in result.table}
    assert "MCC" in shown["baseline pca"] and "CE" not in shown["baseline pca"]


def test_ica_finds_independent_directions(world, tmp_path):
    """Of sparse independent features without superposition, which is the case that it is made for."""
    pytest.importorskip("sklearn")
    data = SyntheticData(d=12, n_features=12, mean_active=1.5, frequency_exponent=0.0)
    config = world.train(tmp_path, data=data)
    train.run(config, tmp_path / "run")
    sizes = {"eval": EvaluationConfig(tokens=6000), "features": FeaturePassConfig(tokens=20_000)}
    asked = world.eval(tmp_path / "run", baselines=[Baseline.ica, Baseline.pca], **sizes)
    found = report_of(evaluate.run(asked, tmp_path / "run", "b"))["baselines"]
    assert found["ica"]["mcc"] > 0.95 > found["pca"]["mcc"] + 0.1


@pytest.mark.parametrize("data", [TRUTHS["compositional"], SMALL], ids=["compositional", "synthsaebench"])
def test_a_training_that_was_stopped_goes_on_to_the_same_bytes(world, tmp_path, data, monkeypatch):
    config = world.train(tmp_path, data=data, tokens=20_480)
    config = replace(config, train=replace(config.train, shuffle_buffer=6000))
    train.run(config, tmp_path / "whole")
    step = Trainer.step

    def step_and_stop(self, *pair):
        step(self, *pair)
        if self.step_number == 70:
            interruption.ask_to_stop(15)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "step", step_and_stop)
        with pytest.raises(Interrupted):
            train.run(config, tmp_path / "stopped")
    interruption._stop.number = None
    train.run(config, tmp_path / "stopped")
    one, other = (read_dictionary_run(tmp_path / name).run.manifest.files for name in ("whole", "stopped"))
    assert one["sae.safetensors"] == other["sae.safetensors"]


REFUSED = [
    (
        {"baselines": [Baseline.token2]},
        "baselines=token2: SynthSAEBench data has no tokens that means could be taken over; expected some of neurons, "
        "random, pca, ica",
    ),
    ({"ablate": [1]}, "ablate: features are taken out of a language model; SynthSAEBench data has none"),
    ({"references": ["demo"]}, "references are language models, and SynthSAEBench data has none"),
    *(
        (
            {group: replace(kind(tokens=2000), **{name: value})},
            f"{group}.{name} has no effect: SynthSAEBench data has no tokens",
        )
        for group, kind, name, value in (
            ("eval", EvaluationConfig, "exclude", []),
            ("eval", EvaluationConfig, "sample", Sample.first),
            ("eval", EvaluationConfig, "rows_per_document", 2),
            ("eval", EvaluationConfig, "within", 10_000),
            ("features", FeaturePassConfig, "rows_per_document", None),
        )
    ),
    ({"data": SyntheticData(d=64)}, "of activations of SynthSAEBench data cannot be measured on other activations"),
]


def test_what_has_no_truth_or_no_text_is_refused(world, tmp_path):
    train.run(world.train(tmp_path, data=SMALL), tmp_path / "run")
    for number, (changes, said) in enumerate(REFUSED):
        with pytest.raises(RequestError) as refused:
            evaluate.run(world.eval(tmp_path / "run", **SIZES | changes), tmp_path / "run", f"x{number}")
        assert said in str(refused.value) and "\n" not in str(refused.value)
    with pytest.raises(RequestError, match="and SynthSAEBench data has neither"):
        features.run(FeaturesConfig(run=str(tmp_path / "run"), device="cpu", **SIZES), tmp_path / "run", "p")
    with pytest.raises(RequestError, match="data=compositional is made while it is read"):
        harvest.run(world.harvest(tmp_path, data=TRUTHS["compositional"]), tmp_path / "harvest")


def planned(*arguments):
    return make_plan(Request(command="train", overrides=[*arguments])).jobs[0]


def test_names_of_runs():
    """That of each preset shows what it is of; other settings are in the hash, and the same ones make the same name."""
    places = {
        "data=synthsaebench16k": "runs/train/synthsaebench/16384-d768/relu-F2048-l1_1-seed0",
        "data=compositional": "runs/train/compositional/d128/relu-F2048-l1_1-seed0",
        "data=synthetic": "runs/train/synthetic/d128/relu-F2048-l1_1-seed0",
    }
    for override, place in places.items():
        assert str(planned(override).place[0]) == place
    small = planned("data=synthsaebench256").place[0]
    spelt_out = planned("data=synthsaebench16k", "data.d=64", "data.n_features=256", "data.roots=2").place[0]
    assert small == spelt_out and small.parent.name == "256-d64" and small.name.startswith("relu-F2048-l1_1-seed0-")
    assert planned("data=synthsaebench256", "data.bias_norm=1").place[0] != small


CONTRADICTIONS = {
    "data=synthsaebench256 data.roots=4": "data.n_features=256: expected at least 340, the features of data.roots=4",
    "data=synthsaebench256 data.least_frequent=.5": "data.least_frequent=0.5: expected at most data.most_frequent=0.4",
    "data=compositional data.n_objects=99 data.slots=2 data.values=3": "data.n_objects=99: expected at most 9",
    "data=compositional data.slots=9": "expected at most 4,194,304 combinations, found 68,719,476,736",
    "data=synthsaebench16k data.context=64": "data.context=64 has no effect with SynthSAEBench data, which has no text",
    "data=synthsaebench16k data.roots=0 data.depth=1": "data.depth=1 has no effect with data.roots=0",
    "data=synthsaebench16k layer=3": "layer=3 has no effect with SynthSAEBench data, which makes activations itself",
    "data=compositional activations=x": "activations=x has no effect with data=compositional",
}


@pytest.mark.parametrize("arguments", CONTRADICTIONS)
def test_contradictions_are_one_line(arguments):
    with pytest.raises(RequestError) as refused:
        planned(*arguments.split())
    assert CONTRADICTIONS[arguments] in str(refused.value) and "\n" not in str(refused.value)


def test_figures_can_be_read_by_scripts(world, tmp_path):
    train.run(world.train(tmp_path, data=SMALL), tmp_path / "run")
    document = document_of(evaluate.run(world.eval(tmp_path / "run", **SIZES), tmp_path / "run"))
    assert json.loads(json.dumps(document))["figures"]["mcc"] == document["eval"]["mcc"]
