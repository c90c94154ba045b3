"""Comparing runs end to end: known answers, and requests that make no sense."""

import shutil
from dataclasses import replace

import pytest
import torch

from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.manifest import write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import compare, train
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig, Space
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import ModelConfig
from sae_cli.errors import RequestError
from sae_cli.metrics import VERSION
from sae_cli.metrics.similarity import random_floor
from sae_cli.models import load_language_model
from sae_cli.training.initialize import random_directions
from tests.known import document_of

FAST = {
    "device": "cpu",
    "model_rows": 4,
    "eval": EvaluationConfig(tokens=1000),
    "features": FeaturePassConfig(tokens=1500),
}


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """Dictionaries by hook, and one of another seed."""
    root = tmp_path_factory.mktemp("runs")
    train.run(world.train(root), root / "mlp_out")
    train.run(world.train(root, seed=1), root / "seed1")
    train.run(world.train(root, hook=HookConfig(point=HookPoint.mlp_act)), root / "mlp_act")
    train.run(world.train(root, hook=HookConfig(point=HookPoint.resid), layer=0), root / "resid")
    return root


def compared(directory, a, *b, **changes):
    config = CompareConfig(a=str(a), b=[str(each) for each in b], **FAST | changes)
    return document_of(compare.run(config, directory))["compare"]


def test_with_itself(runs, tmp_path):
    shutil.copytree(runs / "mlp_out", tmp_path / "same")
    report = compared(tmp_path / "c", runs / "mlp_out", tmp_path / "same")
    (pair,) = report["pairs"]
    for way in ("a_to_b", "b_to_a"):
        assert pair[way]["mmcs"] == pytest.approx(1, abs=1e-6) and pair[way]["share_0.9"] == 1
        assert pair[way]["floor_random"] < 0.9 and pair[way]["floor_subspace"] < 0.95
    assert pair["one_to_one"]["mean"] == pytest.approx(1, abs=1e-6)
    nearest = read_run(tmp_path / "c").read_tensors("similarity.safetensors")
    assert torch.equal(nearest["0_1.feature"], nearest["0_1.nearest"])


def test_many_make_a_matrix(runs, tmp_path):
    report = compared(tmp_path / "c", runs / "mlp_out", runs / "seed1", runs / "resid")
    assert [(pair["a"], pair["b"]) for pair in report["pairs"]] == [(0, 1), (0, 2), (1, 2)]
    assert report["space"] == "activations"  # all are directions of the residual stream
    assert [each["features"] for each in report["runs"]] == [48, 48, 48]


def test_hooks_of_one_model_meet_in_the_residual_stream(world, runs, tmp_path):
    report = compared(tmp_path / "c", runs / "mlp_act", runs / "mlp_out")
    assert report["space"] == "resid"
    W_out = load_language_model(str(world.model)).parts.mlp_act_to_resid(1).double()
    found = read_run(tmp_path / "c").read_tensors("similarity.safetensors")
    act, out = (
        read_run(runs / name).read_tensors("sae.safetensors")["W_dec"].double() for name in ("mlp_act", "mlp_out")
    )
    act = act[found["0_1.feature"]] @ W_out
    out = out[found["1_0.feature"]]
    cosines = torch.nn.functional.normalize(act, dim=1) @ torch.nn.functional.normalize(out, dim=1).T
    torch.testing.assert_close(found["0_1.cosine"].double(), cosines.amax(dim=1), rtol=1e-4, atol=1e-5)


def test_logits_are_the_centred_ones(world, runs, tmp_path):
    compared(tmp_path / "c", runs / "mlp_out", runs / "resid", space=Space.logits)
    parts = load_language_model(str(world.model)).parts
    W = (parts.W_U() * parts.final_norm_gain()).double()
    centered = W - W.mean(dim=0)
    found = read_run(tmp_path / "c").read_tensors("similarity.safetensors")

    def logits(name, key):
        rows = read_run(runs / name).read_tensors("sae.safetensors")["W_dec"].double()[found[key]]
        return torch.nn.functional.normalize((rows - rows.mean(dim=1, keepdim=True)) @ centered.T, dim=1)

    cosines = logits("mlp_out", "0_1.feature") @ logits("resid", "1_0.feature").T
    torch.testing.assert_close(found["0_1.cosine"].double(), cosines.amax(dim=1), rtol=1e-4, atol=1e-4)


def test_the_truth(world, tmp_path):
    data = SyntheticData(d=32, n_features=40, mean_active=3.0)
    base = world.train(tmp_path, data=data)
    config = replace(base, dict_size=64, l1=2, tokens=60_000, train=replace(base.train, lr=5.6e-3))
    train.run(config, tmp_path / "run")
    report = compared(tmp_path / "c", tmp_path / "run", "truth")
    assert report["runs"][1]["run"] == "truth" and report["runs"][1]["features"] == 40
    assert report["pairs"][0]["b_to_a"]["mmcs"] > 0.9


def test_what_has_no_map_is_refused(world, runs, tmp_path):
    with pytest.raises(RequestError, match="dimensions differ"):
        compared(tmp_path / "c", runs / "mlp_act", runs / "mlp_out", space=Space.activations)
    with pytest.raises(RequestError, match="data=synthetic"):
        compared(tmp_path / "c", runs / "mlp_out", "truth")
    with pytest.raises(RequestError, match="the truth goes to b="):
        compared(tmp_path / "c", "truth", runs / "mlp_out")
    shutil.copytree(world.model, tmp_path / "other")
    other = world.train(tmp_path, model=ModelConfig(path=str(tmp_path / "other")))
    train.run(other, tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="hooks of one model"):
        compared(tmp_path / "c", runs / "mlp_out", tmp_path / "elsewhere", space=Space.resid)
    assert compared(tmp_path / "c", runs / "mlp_out", tmp_path / "elsewhere")["space"] == "activations"


@pytest.mark.parametrize("seed", [0, 1])
def test_floors_do_not_share_random_numbers_with_dictionaries(seed):
    """A dictionary begins with directions of its seed; were the floor the same ones, it would be near 1."""
    rows = random_directions(200, 64, seed)
    floor, spread = random_floor(rows, 200, compare.floor_generator(seed))
    assert floor < 0.4 and spread < 0.02


def test_a_comparison_by_other_definitions_is_made_again(runs, tmp_path, monkeypatch, capsys):
    for version in (1, VERSION):
        monkeypatch.setattr(compare, "VERSION", version)
        compared(tmp_path / "c", runs / "mlp_out", runs / "seed1")
    assert compared(tmp_path / "c", runs / "mlp_out", runs / "seed1")["metrics_version"] == VERSION
    errors = capsys.readouterr().err
    assert f"c: its figures are by version 1 of the definitions, not {VERSION}; comparing again" in errors
    assert errors.count("comparing again") == errors.count(f"already finished: {tmp_path / 'c'}") == 1


def test_a_comparison_without_a_version_is_made_again(runs, tmp_path, capsys):
    report = compared(tmp_path / "c", runs / "mlp_out", runs / "seed1")
    run = read_run(tmp_path / "c")
    old = {key: value for key, value in report.items() if key != "metrics_version"}
    run.manifest.files["compare.json"] = write_json(tmp_path / "c" / "compare.json", old)
    write_manifest(tmp_path / "c", run.manifest)
    assert compared(tmp_path / "c", runs / "mlp_out", runs / "seed1") == report
    assert (
        f"its figures are by a version of the definitions before {VERSION}; comparing again" in capsys.readouterr().err
    )
