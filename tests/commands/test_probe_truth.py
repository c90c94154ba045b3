"""`sae probe` on activations whose features are known: what a dictionary that has them scores, a rotation that has not,
a spurious companion, and a parent whose children have absorbed it."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sae_cli.activations.known_truths import truth_of
from sae_cli.commands import probe
from sae_cli.config.commands.probe import ProbeConfig
from sae_cli.config.data import BenchData, SyntheticData
from sae_cli.config.probe import ConfoundConfig, Judge, ProbeBasis, ProbingConfig
from sae_cli.errors import JobError, RequestError
from tests.known import document_of

D = 48
PLAIN = SyntheticData(d=D, n_features=24, mean_active=6.0, frequency_exponent=0.0)
TREES = BenchData(d=64, n_features=42, roots=2, depth=2, least_frequent=5e-3, bias_norm=0.0)
SMALL = ProbingConfig(
    truth=True, tokens=20_000, test_tokens=16_000, fit=400, tune=150, test=400, least=60, permutations=10, concepts=4
)


def exact(data, threshold=1e-3):
    """A dictionary that reads off every true feature: the inverse of the directions, and a small threshold."""
    directions = truth_of(data).directions()
    inverse = torch.linalg.pinv(directions.double()).T.float()
    zero = torch.zeros(data.d)
    return {
        "W_enc": inverse, "b_enc": torch.full((len(directions),), -threshold), "W_dec": directions, "b_dec": zero,
        "activation_mean": zero,
    }  # fmt: skip


def probed(world, folder, tensors, data, **changes):
    world.install(folder / "run", tensors, data=data)
    given = {"probe": SMALL, "baselines": [ProbeBasis.random, ProbeBasis.neurons], "k": [1, 4, 12, 48]}
    config = ProbeConfig(run=str(folder / "run"), device="cpu", **given | changes)
    found = document_of(probe.run(config, folder / "run", "a"))
    return found["probe"], found["figures"]


def test_a_dictionary_of_the_truth_has_auroc_1_and_k95_1(world, tmp_path):
    report, figures = probed(world, tmp_path, exact(PLAIN), PLAIN)
    assert figures["concepts"] == 4 and figures["auroc"] == 1.0 and figures["k95"] == 1 and figures["f1"] == 1.0
    for each in report["concepts"]:
        of_features, rotated = each["bases"]["features"], each["bases"]["random"]
        assert f"truth.{of_features['best']['feature']}" == each["concept"]
        assert of_features["best"]["precision"] == of_features["best"]["recall"] == 1.0
        assert of_features["best"]["average_precision"] == 1.0 and of_features["floor"] < 0.7
        assert of_features["sparse"][0]["auroc"] == 1.0
        # A rotation spreads a direction over all coordinates.
        assert rotated["k95"] is not None and D / 8 <= rotated["k95"] <= D
        assert rotated["best"]["auroc"] < 0.95 < each["dense"]["x"]["auroc"]
        assert abs(each["dense"]["error"]["auroc"] - 0.5) < 0.1 or each["dense"]["error"]["auroc"] > 0.5
    assert report["skipped"] == [] and report["absorbed"] == []


def test_files_hold_every_feature(world, tmp_path):
    report, _ = probed(world, tmp_path, exact(PLAIN), PLAIN)
    tensors = load_file(tmp_path / "run" / "probe" / "a" / "probe.safetensors")
    for number, each in enumerate(report["concepts"]):
        own = int(each["concept"].removeprefix("truth."))
        assert tensors["auroc"][number, own] == 1 and tensors["f1"][number, own] == 1
        assert np.delete(tensors["auroc"][number], own).max() < 0.6
        assert 0 < tensors["threshold"][number, own] <= 0.31 and tensors["selected"][number, 0] == own
        assert (
            each["discoveries"] >= 1 and len(tensors[f"{number}.document"]) == tensors[f"{number}.influence"].shape[1]
        )
    assert tensors["auroc"].shape == (4, 24) and report["hypotheses"] == 4 * 24


def test_taking_the_companion_out_restores_the_concept(world, tmp_path):
    judges = ConfoundConfig(judges=[Judge.oracle, Judge.names], names=[7], top=[5], splits=4, n=200)
    report, _ = probed(world, tmp_path, exact(PLAIN), PLAIN, confound="truth.3:truth.7", judge=judges)
    found = report["confound"]
    floor = 0.15
    assert abs(found["nothing"]["parted"] - 0.5) < floor and found["nothing"]["worst"] <= 0.5
    assert found["balanced"]["worst"] > 0.95 and found["without_companion"]["worst"] > 0.9
    for judged in found["judged"]:
        own = judged["conditions"]
        assert own["ablated"]["removed"] == own["random"]["removed"] == 1
        assert own["refitted"]["worst"] > 0.97 and own["refitted"]["auroc"] > 0.99
        assert own["ablated"]["worst"] > 0.9 and own["ablated"]["more_low"] > 0.5
        assert abs(own["ablated"]["auroc_of_companion"] - 0.5) < 0.05 < found["nothing"]["auroc_of_companion"] - 0.5
        # What is as important to the probe but not of the companion does not help.
        assert abs(own["random"]["parted"] - 0.5) < floor and own["random"]["worst"] < 0.5
    assert {"neurons", "pca"} <= set(found["judged"][0]["conditions"]) and "pca" not in found["judged"][1]["conditions"]


def test_a_parent_that_its_children_have_absorbed(world, tmp_path):
    """The parent's feature is silent where a child's fires. The table of absorption says so: whichever feature stands
    for the parent finds it nowhere else than at home."""
    truth = truth_of(TREES)
    tensors = exact(TREES, threshold=1e-3)
    children = range(2, 10)  # breadth first: two roots, then four children of each
    for child in children:
        parent = (child - 2) // 4
        tensors["W_enc"][parent] -= 50 * truth.directions()[child]
    settings = {"tokens": 60_000, "test_tokens": 60_000, "concepts": 42, "least": 30, "least_documents": 5}
    changed = ProbingConfig(truth=True, fit=300, tune=100, test=300, permutations=2, **settings)
    report, _ = probed(world, tmp_path, tensors, TREES, probe=changed, k=[1], agree=2, baselines=[])
    found = {(each["concept"], each["implied_by"]): each for each in report["absorbed"]}
    of_parent = [
        each for (name, by), each in found.items() if name == "truth.0" and by in [f"truth.{c}" for c in range(2, 6)]
    ]
    assert of_parent
    best = next(each for each in report["concepts"] if each["concept"] == "truth.0")["bases"]["features"]["best"]
    if best["feature"] == 0:
        assert all(each["recall"] == 0 and each["recall_elsewhere"] > 0.9 for each in of_parent)
    else:  # a child is a better sign of the parent than what is left of it
        by = {each["implied_by"]: each for each in of_parent}
        own = by.pop(f"truth.{best['feature']}")
        assert own["recall"] > 0.9 and own["recall_elsewhere"] < 0.1
        assert all(each["recall"] == 0 and each["recall_elsewhere"] > 0.2 for each in by.values())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"probe": ProbingConfig()}, "give probe.truth=true"),
        ({"confound": "truth.3:truth.99"}, "expected truth.0 to truth.23, found truth.99"),
        ({"control": "nowhere"}, "a control is a dictionary"),
    ],
)
def test_what_cannot_be_is_refused(world, tmp_path, changes, said):
    with pytest.raises(RequestError, match=said):
        probed(world, tmp_path, exact(PLAIN), PLAIN, **changes)


def test_too_few_tokens_are_said(world, tmp_path):
    few = ProbingConfig(truth=True, tokens=3000, test_tokens=3000)
    with pytest.raises(JobError, match=r"no concept has enough tokens: truth.0 .easy.: .* expected at least 200 in 10"):
        probed(world, tmp_path, exact(PLAIN), PLAIN, probe=few)
    assert not (tmp_path / "run" / "probe" / "a" / "probe.json").exists()
