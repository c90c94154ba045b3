"""Comparing runs end to end: known answers, and requests that make no sense."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_cli.activations.blocks import take
from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.manifest import write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import compare, train
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.evaluation import ROWS_PER_DOCUMENT, By, EvaluationConfig, FeaturePassConfig, Space
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import ModelConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation.similar_rows import floor_generator
from sae_cli.evaluation.subject import make_subject
from sae_cli.metrics import VERSION
from sae_cli.metrics.similarity import random_floor
from sae_cli.models import load_language_model
from sae_cli.runs.dictionary_run import read_dictionary_run
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
    floor, spread = random_floor(rows, 200, floor_generator(seed))
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


@pytest.fixture(scope="module")
def reordered(world, runs):
    """The first dictionary with its features in another order, twice as strong and half as long: the same function."""
    tensors = read_run(runs / "mlp_out").read_tensors("sae.safetensors")
    order = torch.randperm(len(tensors["b_enc"]), generator=torch.Generator().manual_seed(0))
    changed = {
        **tensors,
        "W_enc": 2 * tensors["W_enc"][order],
        "b_enc": 2 * tensors["b_enc"][order],
        "W_dec": tensors["W_dec"][order] / 2,
    }
    world.install(runs / "reordered", changed)
    return order


@pytest.mark.parametrize("by", list(By))
def test_the_same_features_in_another_order_are_found(runs, reordered, tmp_path, by):
    report = compared(tmp_path / "c", runs / "mlp_out", runs / "reordered", by=by, sample=12)
    (pair,) = report["pairs"]
    assert pair["a_to_b"]["mmcs"] == pytest.approx(1, abs=1e-4) and pair["a_to_b"]["matched"] == 1
    floors = [value for key, value in pair["a_to_b"].items() if key.startswith("floor") and not key.endswith("_sd")]
    assert floors and max(floors) < 0.9
    found = read_run(tmp_path / "c").read_tensors("similarity.safetensors")
    assert torch.equal(reordered[found["0_1.nearest"]], found["0_1.feature"])
    assert (found["0.found_in"].sum(), found["1.found_in"].sum()) == (
        len(found["0_1.feature"]),
        len(found["1_0.feature"]),
    )
    assert report["by"] == by.value and ("space" in report) == by.of_rows


def test_correlations_against_numpy(world, runs, tmp_path):
    compared(tmp_path / "c", runs / "mlp_out", runs / "mlp_act", by=By.activations)
    found = read_run(tmp_path / "c").read_tensors("similarity.safetensors")
    blocks = {}
    for name in ("mlp_out", "mlp_act"):
        source = read_dictionary_run(runs / name)
        subject = make_subject(source, None, 4, torch.device("cpu"))
        some = take(subject.blocks(Split.train, ROWS_PER_DOCUMENT), FAST["features"].tokens)
        x = torch.cat([block.activations for block in some])
        blocks[name] = load_dictionary(source.run).encode(x).double().numpy()
    of_a, of_b = found["0_1.feature"], found["1_0.feature"]
    both = np.concatenate([blocks["mlp_out"][:, of_a], blocks["mlp_act"][:, of_b]], axis=1)
    expected = np.corrcoef(both.T)[: len(of_a), len(of_a) :]
    np.testing.assert_allclose(found["0_1.cosine"].numpy(), expected.max(axis=1), atol=1e-4)
    assert torch.equal(found["0_1.nearest"], of_b[torch.from_numpy(expected.argmax(axis=1))])


def test_the_floor_does_not_need_several_rows_at_once(runs, tmp_path):
    """Of one row at a time, the row before is of another document as well."""
    few, many = (
        compared(tmp_path / f"{rows}", runs / "mlp_out", runs / "seed1", by=By.activations, model_rows=rows)["pairs"][0]
        for rows in (1, 4)
    )
    assert few["a_to_b"]["mmcs"] == pytest.approx(many["a_to_b"]["mmcs"], abs=1e-4)
    assert few["a_to_b"]["floor_moved"] == pytest.approx(many["a_to_b"]["floor_moved"], abs=0.1)
    assert few["a_to_b"]["floor_moved"] < few["a_to_b"]["mmcs"]


def test_models_that_read_other_tokens_are_refused(world, runs, tmp_path):
    shutil.copytree(world.model, tmp_path / "model")
    tokenizer = json.loads((tmp_path / "model" / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": "a"}
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(tokenizer))
    tensors = read_run(runs / "mlp_out").read_tensors("sae.safetensors")
    world.install(tmp_path / "other", tensors, model=ModelConfig(path=str(tmp_path / "model")))
    with pytest.raises(
        RequestError, match="by=activations: expected models that read the same tokens, found rows that"
    ):
        compared(tmp_path / "c", runs / "mlp_out", tmp_path / "other", by=By.activations)


def test_networks_without_a_basis_in_common_meet_by_activations(world, runs, tmp_path):
    """A network whose MLP writes along other axes of the residual stream has the same features, as they fire."""
    model = load_language_model(str(world.model))
    down = model.parts.blocks[1].down_projection
    assert down is not None
    weight, bias = (down.get_parameter(name) for name in ("weight", "bias"))
    width = len(bias)
    turn = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(1)))[0]
    weight.data, bias.data = turn @ weight.data, turn @ bias.data
    model.hf.save_pretrained(tmp_path / "turned")
    for file in world.model.glob("tok*"):
        shutil.copy(file, tmp_path / "turned")
    tensors = read_run(runs / "mlp_out").read_tensors("sae.safetensors")
    turned = {**tensors, **{key: tensors[key] @ turn.T for key in ("W_enc", "W_dec", "b_dec", "activation_mean")}}
    world.install(tmp_path / "other", turned, model=ModelConfig(path=str(tmp_path / "turned")))
    by_rows = compared(tmp_path / "rows", runs / "mlp_out", tmp_path / "other")["pairs"][0]["a_to_b"]
    by_firing = compared(tmp_path / "c", runs / "mlp_out", tmp_path / "other", by=By.activations)["pairs"][0]["a_to_b"]
    assert by_firing["mmcs"] == pytest.approx(1, abs=1e-3) and by_rows["mmcs"] < 0.9


def test_features_of_all_seeds_and_by_frequency(runs, reordered, tmp_path):
    report = compared(tmp_path / "c", runs / "mlp_out", runs / "reordered", runs / "seed1", by=By.activations)
    tensors = read_run(tmp_path / "c").read_tensors("similarity.safetensors")
    for number, each in enumerate(report["runs"]):
        assert each["universal"] == pytest.approx(float((tensors[f"{number}.found_in"] >= 1).double().mean()))
    assert report["runs"][0]["universal"] == 1  # in the same dictionary again
    for pair in report["pairs"]:
        bands = pair["a_to_b_by_frequency"]
        assert sum(each["features"] for each in bands) == report["runs"][pair["a"]]["alive"]
        mean = sum(each["features"] * (each["matched"] or 0) for each in bands) / sum(
            each["features"] for each in bands
        )
        assert mean == pytest.approx(pair["a_to_b"]["matched"])


def test_known_truths_are_compared_by_activations(world, tmp_path):
    data = SyntheticData(d=32, n_features=40, mean_active=3.0)
    for seed in (0, 1):
        train.run(world.train(tmp_path, data=data, seed=seed, tokens=20_000), tmp_path / f"{seed}")
    found = compared(tmp_path / "c", tmp_path / "0", tmp_path / "1", by=By.activations)["pairs"][0]["a_to_b"]
    assert found["mmcs"] > found["floor_moved"] + 0.2
    with pytest.raises(RequestError, match="has none"):
        compared(tmp_path / "d", tmp_path / "0", tmp_path / "1", by=By.effects)


def test_what_cannot_be_compared_so_is_refused(world, runs, tmp_path):
    with pytest.raises(RequestError, match="by=encoder: what features read"):
        compared(tmp_path / "c", runs / "mlp_act", runs / "mlp_out", by=By.encoder)
    with pytest.raises(ValueError, match="expected by=directions, found by=activations"):
        compared(tmp_path / "c", runs / "mlp_out", "truth", by=By.activations)
    train.run(world.train(tmp_path, data=SyntheticData(d=32)), tmp_path / "synthetic")
    with pytest.raises(RequestError, match="expected dictionaries that read the same tokens"):
        compared(tmp_path / "c", runs / "mlp_out", tmp_path / "synthetic", by=By.activations)
