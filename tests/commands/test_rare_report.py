"""What an evaluation says of rare features, against the run's own files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import eval as evaluate
from sae_cli.commands import train
from sae_cli.config.evaluation import FeaturePassConfig
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.runs.file_names import FEATURES_FILE
from tests.known import document_of

BELOW = 0.5


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    directory = tmp_path_factory.mktemp("rare") / "run"
    config = world.train(directory.parent)
    train.run(replace(config, train=replace(config.train, save_at=[4, 9])), directory)
    return read_run(directory)


@pytest.fixture(scope="module")
def report(world, run):
    config = world.eval(run.directory, features=FeaturePassConfig(tokens=1500, rare_below=BELOW))
    return document_of(evaluate.run(config, run.directory, "rare"))["eval"]["rare"]


def groups(run):
    features = read_run(run.directory / "eval" / "rare", "eval").read_tensors(FEATURES_FILE)
    frequency = features["frequency"].numpy()
    return {"rare": (frequency > 0) & (frequency < BELOW), "others": frequency >= BELOW}


def mean_pairwise_cosine(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = unit @ unit.T
    return cosines[np.triu_indices(len(rows), 1)].mean()


def looks(dictionary, chosen):
    W_enc, W_dec = dictionary.W_enc.double().numpy(), dictionary.W_dec.double().numpy()
    return mean_pairwise_cosine(W_enc[chosen]), np.median((W_enc * W_dec).sum(axis=1)[chosen])


def test_the_two_groups(run, report):
    dictionary = load_dictionary(run)
    for name, chosen in groups(run).items():
        assert report[name]["features"] == chosen.sum() > 2
        alignment, projection = looks(dictionary, chosen)
        assert report[name]["encoder_alignment"] == pytest.approx(alignment, abs=1e-6)
        assert report[name]["de_projection"]["q50"] == pytest.approx(projection, abs=1e-6)
        bias = np.median(dictionary.b_enc.numpy()[chosen])
        assert report[name]["b_enc"]["q50"] == pytest.approx(bias, abs=1e-6)


def test_the_same_features_at_the_saved_steps(run, report):
    assert [each["step"] for each in report["snapshots"]] == [4, 9]
    then = load_dictionary(run, name="snapshots/step-00000009.safetensors")
    for name, chosen in groups(run).items():
        alignment, projection = looks(then, chosen)
        assert report["snapshots"][1][name]["encoder_alignment"] == pytest.approx(alignment, abs=1e-6)
        assert report["snapshots"][1][name]["de_projection"]["q50"] == pytest.approx(projection, abs=1e-6)


def test_trajectories_cover_the_training(run, report):
    found = report["trajectories"]["rare_now"]
    history = run.read_tensors("density_history.safetensors")
    count, chosen = history["count"].numpy(), groups(run)["rare"]
    assert found["features"] == chosen.sum()
    assert found["firing"] == (count[:, chosen] > 0).sum(axis=1).tolist()
    whole = np.average(found["density"], weights=np.diff([0, *_ends(found, history)]))
    assert whole == pytest.approx(count[:, chosen].sum() / int(history["tokens"].sum()) / chosen.sum())


def _ends(found, history):
    ends = dict(zip(history["step"].tolist(), history["tokens"].cumsum(0).tolist(), strict=True))
    return [ends[step] for step in found["step"]]


def test_a_dictionary_without_rare_features_says_so(world, run):
    config = world.eval(run.directory, features=FeaturePassConfig(tokens=1500, rare_below=1e-9))
    found = document_of(evaluate.run(config, run.directory, "none"))["eval"]["rare"]
    assert found["rare"] == {"features": 0}
    assert torch.isfinite(torch.tensor(found["others"]["encoder_alignment"]))


def test_a_training_of_two_steps(world, tmp_path):
    """Too few windows for anything to have been rare early, and no step left to fit the decoder in."""
    train.run(world.train(tmp_path, tokens=256), tmp_path / "run")
    report = document_of(evaluate.run(world.eval(tmp_path / "run"), tmp_path / "run", "default"))["eval"]
    found = report["rare"]["trajectories"]
    assert [found[name]["features"] for name in ("exempt", "not_exempt", "resampled")] == [0, 0, 0]
