"""Logit hooks through every command: harvest, train, eval, prune, compare, several at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import compare, harvest, train
from sae_cli.commands import eval as evaluate
from sae_cli.commands import prune_high_freq as prune
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.compose import Composer, typed
from sae_cli.config.evaluation import FeaturePassConfig, Space
from sae_cli.config.hook import HookConfig, HookPoint, LogitMode, LogitUpdateHook
from sae_cli.config.names import baseline_choices, run_directory
from sae_cli.config.train import TrainingConfig
from sae_cli.dictionaries.files import DICTIONARY_FILE, load_dictionary
from sae_cli.errors import RequestError
from sae_cli.models import Site, load_language_model
from sae_cli.runs.file_names import FEATURES_FILE
from tests.known import document_of, first_rows, the

D = 16
EXACT, LINEAR = (LogitUpdateHook(point=HookPoint.logit_update, mode=mode) for mode in LogitMode)
LOGITS, MLP_OUT = HookConfig(point=HookPoint.logits), HookConfig(point=HookPoint.mlp_out)
HOOKS = {"exact": EXACT, "linear": LINEAR, "logits": LOGITS}
SAVED = TrainingConfig(batch_size=128, shuffle_buffer=512, held_out_tokens=256, save_at=[4])
MEASURE = {"eval": first_rows(600), "features": FeaturePassConfig(tokens=1000), "device": "cpu"}


@pytest.fixture(scope="module")
def runs(world, tmp_path_factory):
    """A trained dictionary of each logit hook, and one of the update that they are made of."""
    root = tmp_path_factory.mktemp("logit-hooks")
    for name, hook in {**HOOKS, "mlp_out": MLP_OUT}.items():
        train.run(world.train(root, hook=hook), root / name)
    return root


def identity(world, directory, hook):
    """A dictionary whose reconstruction is its input."""
    rows = torch.cat([torch.eye(D), -torch.eye(D)])
    biases = {"b_enc": torch.zeros(2 * D), "b_dec": torch.zeros(D), "activation_mean": torch.full((D,), 0.3)}
    world.install(directory, {"W_enc": rows, "W_dec": rows, **biases}, hook=hook)
    return document_of(evaluate.run(world.eval(directory), directory, "default"))["eval"]


@pytest.mark.parametrize("name", HOOKS)
def test_identity_changes_nothing_on_any_path(world, tmp_path, name):
    report = identity(world, tmp_path / "run", HOOKS[name])
    assert report["fvu"] == pytest.approx(0, abs=1e-10)
    assert report["fvu_logit"] == pytest.approx(0, abs=1e-10)
    paths = ["_direct"] if name == "exact" else ["", "_direct"]
    for path in paths:
        assert report[f"ce_sae{path}"] == pytest.approx(report["ce_clean"], abs=1e-6)
        assert report[f"ce_increase{path}"] == pytest.approx(0, abs=1e-5)
        assert report[f"kl_sae{path}"] == pytest.approx(0, abs=1e-8)
        assert report[f"ce_zero{path}"] != pytest.approx(report["ce_clean"], abs=1e-4)
    assert ("loss_recovered" in report) == (name != "exact")
    assert (report["fvu_resid"] is None) == (name != "linear")


@pytest.mark.parametrize("name", HOOKS)
def test_errors_are_those_of_the_logits(world, runs, name):
    """FVU in coordinates is FVU in centered logits, and the logits' own definition of both paths agrees."""
    report = document_of(evaluate.run(world.eval(runs / name), runs / name, "default"))["eval"]
    assert report["fvu_logit"] == pytest.approx(report["fvu"], rel=1e-4)
    if name == "logits":
        assert report["loss_recovered"] == report["loss_recovered_direct"]
        assert report["kl_sae"] == report["kl_sae_direct"]


def test_linear_error_seen_from_the_residual_stream(world, runs):
    """By hand: σ S⁺ (ŷ - y), centered, against the update."""
    report = document_of(evaluate.run(world.eval(runs / "linear"), runs / "linear", "default"))["eval"]
    model, dictionary = load_language_model(str(world.model)), load_dictionary(read_run(runs / "linear"))
    site = Site(HookPoint.logit_update, 1, LogitMode.linear)
    from tests.commands.test_evaluate_together import held_out_rows

    rows = held_out_rows(world, model)
    seen = model.capture(rows, [site, Site(HookPoint.mlp_out, 1), model.end.final_resid])
    y, u, r = (each[:, 1:].flatten(0, 1).double() for each in seen.values())
    error = (dictionary(y.float()).double() - y) @ torch.linalg.pinv(model.end.logit_space.S)
    scale = (r.var(dim=1, correction=0, keepdim=True) + the(torch.nn.LayerNorm, model.parts.final_norm).eps).sqrt()
    error = scale * (error - error.mean(dim=1, keepdim=True))
    expected = error.square().sum() / (u - u.mean(dim=0)).square().sum()
    assert report["fvu_resid"] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("name", HOOKS)
def test_a_harvest_serves_the_training(world, runs, tmp_path, name):
    harvest.run(world.harvest(tmp_path, hook=HOOKS[name]), tmp_path / "harvest")
    train.run(world.train(tmp_path, hook=HOOKS[name]), tmp_path / "run")
    trained = read_run(tmp_path / "run")
    assert trained.manifest.facts["source"] == "harvest"
    from_disk, live = load_dictionary(trained), load_dictionary(read_run(runs / name))
    assert from_disk.d_out == live.d_out == D
    header = trained.read_metadata(DICTIONARY_FILE)
    assert header["hook"] == HOOKS[name].point.value
    assert ("layer" in header, "mode" in header) == (name != "logits", name != "logits")


def test_logit_weights_of_a_logit_hook_are_exact(world, runs):
    """ŷ + dᵢ changes the final logits by exactly what is written down for feature i."""
    report = document_of(evaluate.run(world.eval(runs / "exact"), runs / "exact", "default"))["eval"]
    tensors = read_run(runs / "exact" / "eval" / "default", "eval").read_tensors(FEATURES_FILE)
    model, dictionary = load_language_model(str(world.model)), load_dictionary(read_run(runs / "exact"))
    change = dictionary.W_dec.double() @ torch.linalg.pinv(model.end.logit_space.S) @ model.end.logit_space.W.double().T
    change = change - change.mean(dim=1, keepdim=True)
    for i in range(dictionary.n_features):
        top, bottom = tensors["logit_top_tokens"][i], tensors["logit_bottom_tokens"][i]
        assert int(top[0]) == int(change[i].argmax()) and int(bottom[0]) == int(change[i].argmin())
        torch.testing.assert_close(tensors["logit_top_weights"][i].double(), change[i][top], rtol=1e-3, atol=1e-5)
    assert change.norm(dim=1).numpy() == pytest.approx(1, rel=1e-4)  # unit rows: the map is isometric
    assert report["logit_kurtosis_median"] > 1


@pytest.mark.parametrize("name", HOOKS)
def test_the_files_say_how_activations_are_computed(world, tmp_path, name):
    """By plain transformers and torch from what is stored: y = S z, as README has it."""
    harvested = harvest.run(world.harvest(tmp_path, hook=HOOKS[name]), tmp_path / "harvest").directory
    root = load_file(harvested / "coordinates.safetensors")["logit_root"]
    model: Any = AutoModelForCausalLM.from_pretrained(world.model).requires_grad_(False)
    resid, update = [], []
    block, norm = model.gpt_neox.layers[-1], model.gpt_neox.final_layer_norm
    block.register_forward_hook(lambda _, args, out: resid.append(out[0] if isinstance(out, tuple) else out))
    block.mlp.register_forward_hook(lambda _, args, out: update.append(out))
    model(torch.cat([load_file(each)["tokens"] for each in sorted(harvested.glob("rows-*"))]))
    r, u = (torch.cat(each)[:, 1:].flatten(0, 1) for each in (resid, update))

    def normalized(x):
        return torch.nn.functional.layer_norm(x, (D,), eps=norm.eps)

    z = {
        "logits": lambda: normalized(r),
        "exact": lambda: normalized(r) - normalized(r - u),
        "linear": lambda: (u - u.mean(1, keepdim=True)) / (r.var(1, correction=0, keepdim=True) + norm.eps).sqrt(),
    }[name]()
    stored = torch.cat([load_file(each)["activations"] for each in sorted(harvested.glob("activations-*"))])
    torch.testing.assert_close(stored, z @ root, rtol=1e-4, atol=1e-4)
    W = model.get_output_embeddings().weight * norm.weight
    centered = (W - W.mean(dim=0)).detach()
    torch.testing.assert_close(
        (z @ root).norm(dim=1).detach(), (z @ centered.T).norm(dim=1).detach(), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", HOOKS)
def test_every_dictionary_of_a_logit_hook_has_the_root(world, runs, tmp_path, name):
    train.run(world.train(tmp_path, hook=HOOKS[name], train=SAVED), tmp_path / "saved")
    prune.run(PruneConfig(run=str(runs / name), top_n=2, **MEASURE), tmp_path / "pruned")
    expected = load_language_model(str(world.model)).end.logit_space.S.float()
    files = [runs / name / DICTIONARY_FILE, tmp_path / "pruned" / DICTIONARY_FILE]
    for file in [*files, *(tmp_path / "saved" / "snapshots").iterdir()]:
        assert torch.equal(load_file(file)["logit_root"], expected), file
    assert "logit_root" not in load_file(runs / "mlp_out" / DICTIONARY_FILE)


def test_compared_with_other_hooks(runs, tmp_path):
    config = CompareConfig(a=str(runs / "exact"), b=[str(runs / "linear"), str(runs / "mlp_out")], **MEASURE)
    report = document_of(compare.run(config, tmp_path / "auto"))["compare"]
    assert report["space"] == "resid"
    logits = document_of(compare.run(replace(config, space=Space.logits), tmp_path / "logits"))["compare"]
    own = document_of(compare.run(replace(config, b=[str(runs / "logits")]), tmp_path / "own"))["compare"]
    assert own["space"] == "activations"  # both are of the logits
    assert {len(each["pairs"]) for each in (report, logits)} == {3}
    with pytest.raises(RequestError, match="space=activations: the dictionaries are of the logits of"):
        compare.run(replace(config, space=Space.activations), tmp_path / "no")


def test_pruned(runs, tmp_path):
    config = PruneConfig(run=str(runs / "exact"), top_n=4, recenter=True, **MEASURE)
    report = document_of(prune.run(config, tmp_path / "pruned"))["eval"]
    assert report["killed"] == 4 and "loss_recovered_direct" in report["before"]


def test_several_at_once(world, runs, tmp_path):
    def together(*names):
        config = world.eval("one", features=FeaturePassConfig())
        config = replace(config, run=[str(runs / name) for name in names])
        return document_of(evaluate.run(config, tmp_path / "-".join(names), "default"))["eval"]

    train.run(world.train(tmp_path, layer=0), tmp_path / "layer0")
    config = replace(
        world.eval("one", features=FeaturePassConfig()), run=[str(tmp_path / "layer0"), str(runs / "linear")]
    )
    report = document_of(evaluate.run(config, tmp_path / "both", "default"))["eval"]
    assert set(report["dictionaries"]) == {"mlp_out.0", "logit_update-linear.1"}
    with pytest.raises(RequestError, match=r"is of logit_update-exact.1, which acts on the direct path only"):
        together("exact", "mlp_out")
    with pytest.raises(RequestError, match=r"expected one dictionary for mlp_out.1"):
        together("linear", "mlp_out")


def place_of(*overrides):
    composer = Composer()
    composed = composer.compose("train", list(overrides))
    baseline = composer.baseline("train", baseline_choices(typed(composed.settings), composed.hydra.runtime.choices))
    return str(run_directory(typed(composed.settings), baseline))


def test_names_show_hook_and_mode():
    assert place_of("hook=logit_update").startswith("runs/train/demo/logit_update.2/")
    assert place_of("hook=logit_update", "hook.mode=linear").startswith("runs/train/demo/logit_update-linear.2/")
    assert place_of("hook=logits") == "runs/train/demo/logits/relu-F2048-l1_1-seed0"
    with pytest.raises(RequestError, match="layer=1 has no effect with hook=logits"):
        place_of("hook=logits", "layer=1")
