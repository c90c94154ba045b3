"""Several dictionaries in one model, against the same done by hand with the modules' own hooks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sae_cli.artifacts.stored_run import read_run
from sae_cli.build import row_stream
from sae_cli.cli.plan import make_plan
from sae_cli.cli.request import Request
from sae_cli.cli.required_fields import EVALUATION, GROUPS
from sae_cli.commands import eval as evaluate
from sae_cli.config.data import SyntheticData
from sae_cli.config.hook import HookConfig, HookPoint
from sae_cli.config.model import ModelConfig
from sae_cli.config.split import Split
from sae_cli.errors import JobError, RequestError
from sae_cli.models import load_language_model
from tests.known import document_of

ROWS = -(-1000 // 31)


def tensors(width, directions, mean=0.1):
    return {
        "W_enc": directions,
        "W_dec": directions,
        "b_enc": torch.zeros(len(directions)),
        "b_dec": torch.zeros(width),
        "activation_mean": torch.full((width,), mean),
    }


def some(width, seed):
    directions = torch.randn(24, width, generator=torch.Generator().manual_seed(seed))
    return tensors(width, torch.nn.functional.normalize(directions, dim=1))


def both_signs(width):
    return tensors(width, torch.cat([torch.eye(width), -torch.eye(width)]))


@pytest.fixture
def runs(world, tmp_path):
    """Two dictionaries: of the first block's update, and of the second block's neurons, which read the first."""
    update = world.install(tmp_path / "a", some(16, 0), layer=0)
    neurons = world.install(tmp_path / "b", some(40, 1), layer=1, hook=HookConfig(point=HookPoint.mlp_act))
    return (tmp_path / "a", update), (tmp_path / "b", neurons)


def together(world, directory, *runs, **changes):
    config = world.eval("one", **changes)
    config = replace(config, run=[str(each) for each in runs], features=type(config.features)())
    return evaluate.run(config, directory, "default")


def held_out_rows(world, model):
    stream = row_stream(world.train("").data, model, Split.held_out)
    return torch.cat([torch.from_numpy(block.tokens) for block in stream.one_epoch(4)])[:ROWS]


def test_losses_and_figures_against_hooks_by_hand(world, tmp_path, runs):
    (a, update), (b, neurons) = runs
    report = document_of(together(world, tmp_path / "both", b, a))["eval"]
    model = load_language_model(str(world.model))
    rows = held_out_rows(world, model)
    replacements = {
        "clean": (lambda x: x, lambda x: x),
        "sae": (update, neurons),
        "zero": (torch.zeros_like, torch.zeros_like),
        "mean": (lambda x: x * 0 + 0.1, lambda x: x * 0 + 0.1),
    }
    read = {}
    for name, (of_update, of_neurons) in replacements.items():

        def output(module, args, x, name=name, function=of_update):
            read[name, "mlp_out.0"] = x[:, 1:].double()
            return torch.cat([x[:, :1], function(x[:, 1:])], dim=1)

        def inputs(module, args, name=name, function=of_neurons):
            read[name, "mlp_act.1"] = args[0][:, 1:].double()
            return (torch.cat([args[0][:, :1], function(args[0][:, 1:])], dim=1),)

        handles = [
            model.hf.get_submodule("gpt_neox.layers.0.mlp").register_forward_hook(output),
            model.hf.get_submodule("gpt_neox.layers.1.mlp.dense_4h_to_h").register_forward_pre_hook(inputs),
        ]
        with torch.no_grad():
            logits = model.hf(rows).logits.double()
        for handle in handles:
            handle.remove()
        losses = torch.nn.functional.cross_entropy(logits[:, 1:-1].flatten(0, 1), rows[:, 2:].flatten())
        assert report[f"ce_{name}"] == pytest.approx(losses.item(), rel=1e-5), name
    for condition, end in (("sae", ""), ("clean", "_alone")):
        for site, dictionary in (("mlp_out.0", update), ("mlp_act.1", neurons)):
            x = read[condition, site].flatten(0, 1)
            error = (x - dictionary(x.float()).double()).square().sum()
            fvu = (error / (x - x.mean(dim=0)).square().sum()).item()
            l0 = (dictionary.encode(x.float()) > 0).sum().item() / len(x)
            assert report["dictionaries"][site][f"fvu{end}"] == pytest.approx(fvu, rel=1e-5)
            assert report["dictionaries"][site][f"l0{end}"] == pytest.approx(l0, rel=1e-3)
    assert report["dictionaries"]["mlp_out.0"]["fvu"] == pytest.approx(report["dictionaries"]["mlp_out.0"]["fvu_alone"])


def test_identities_change_nothing(world, tmp_path):
    world.install(tmp_path / "a", both_signs(16), layer=0)
    world.install(tmp_path / "b", both_signs(16), layer=1, hook=HookConfig(point=HookPoint.resid))
    report = document_of(together(world, tmp_path / "both", tmp_path / "a", tmp_path / "b"))["eval"]
    assert report["ce_sae"] == pytest.approx(report["ce_clean"], abs=1e-6)
    assert report["ce_increase"] == pytest.approx(0, abs=1e-5)
    assert not any(name.endswith("_direct") for name in report)
    assert {name for name, value in report.items() if isinstance(value, int | float | dict)} <= {*EVALUATION, *GROUPS}


def test_it_is_a_run_of_its_own_with_all_dictionaries_as_parents(world, tmp_path, runs, monkeypatch):
    (a, _), (b, _) = runs
    first = together(world, tmp_path / "both", a, b)
    run = read_run(tmp_path / "both", "eval")
    assert set(run.manifest.files) == {"config.yaml", "eval.json", "rows.safetensors"}
    assert {parent.path for parent in run.manifest.parents} == {str(a), str(b)}
    assert first.directory == tmp_path / "both"
    monkeypatch.setattr("sae_cli.evaluation.evaluate_together.JointSplicer", None)
    assert together(world, tmp_path / "both", b, a).document == first.document


def planned(*overrides):
    overrides = (*overrides, "runs_dir=runs")
    multirun = any("],[" in override for override in overrides)
    plan = make_plan(Request(command="eval", overrides=overrides, multirun=multirun))
    return [job.place[0] for job in plan.jobs]


def test_its_place_shows_the_model_and_the_sites(world, tmp_path, runs):
    (a, _), (b, _) = runs
    (place,) = planned(f"run=[{a},{b}]")
    assert place.parts[:2] == ("runs", "eval") and place.parts[2].startswith("model-")
    assert place.name.startswith("mlp_out.0-mlp_act.1-")
    assert planned(f"run=[{b},{a}]") == [place]
    assert planned(f"run=[{a},{b}]", "eval.tokens=7") != [place]
    assert planned(f"run=[{a}]") == planned(f"run={a}") == [a]
    assert planned(f"run=[{a},{b}]", "name=mine") == [Path("runs/mine")]


def test_a_sweep_over_lists(world, tmp_path, runs):
    (a, _), (b, _) = runs
    world.install(tmp_path / "c", both_signs(16), layer=1)
    assert len(set(planned(f"run=[{a},{b}],[{a},{tmp_path / 'c'}]"))) == 2


def test_what_cannot_be_spliced_together_is_refused_before_anything_is_written(world, tmp_path, runs):
    a = runs[0][0]
    text = world.train("").data
    world.install(tmp_path / "same", some(16, 2), layer=0)
    world.install(tmp_path / "model", some(16, 2), model=ModelConfig(path="embedded:demo-xs"))
    world.install(tmp_path / "text", some(16, 2), data=replace(text, context=16))
    world.install(tmp_path / "made", some(16, 2), data=SyntheticData())
    world.install(tmp_path / "wide", some(5, 2), layer=1)
    refused = {
        "same": (RequestError, "expected one dictionary for mlp_out.0, found .*a and .*same; leave one out"),
        "model": (RequestError, "expected the model of .*a, found model.path=embedded:demo-xs instead of"),
        "text": (RequestError, "found data.context=16 instead of 32; say which text with data="),
        "made": (RequestError, "expected dictionaries of a language model, found data=synthetic"),
        "wide": (JobError, "the dictionary writes activations of width 5, but mlp_out.1 has width 16"),
        "none": (RequestError, "no run here"),
    }
    for name, (error, said) in refused.items():
        with pytest.raises(error, match=said):
            together(world, tmp_path / "both", a, tmp_path / name)
    assert not (tmp_path / "both").exists()
    report = document_of(together(world, tmp_path / "both", a, tmp_path / "text", data=text))["eval"]
    assert set(report["dictionaries"]) == {"mlp_out.0", "mlp_out.1"}
    with pytest.raises(RequestError, match="no run here"):
        planned(f"run=[{a},{tmp_path / 'none'}]")
