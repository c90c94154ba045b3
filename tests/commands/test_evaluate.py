"""Evaluation end to end: dictionaries whose figures are known before they are measured."""

import json
import os
from dataclasses import replace

import pytest
import torch

from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.cli.required_fields import EVALUATION, GROUPS
from sae_cli.commands import eval as evaluate
from sae_cli.commands import train
from sae_cli.config.evaluation import Baseline, Exclude
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.dictionaries.files import save_dictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.errors import JobError, RequestError
from sae_cli.reports.sources import subject
from tests.known import document_of, first_rows

D = 16


def install(world, directory, dictionary):
    """A run that holds a dictionary made by hand."""
    config = world.train(directory.parent)
    with open_run(directory, "train", result_settings(config)) as run:
        run.write_text(CONFIG_FILE, as_yaml(config))
        save_dictionary(run, dictionary, {"hook": "mlp_out", "layer": 1, "model": str(world.model), "scale": 1.0})
        run.finish(tokens=1, source="by hand", width=D)


def dictionary_of(mean, b_dec=None, directions=None):
    directions = torch.zeros(2, D) if directions is None else directions
    return ReluDictionary(
        {
            "W_enc": directions,
            "W_dec": directions,
            "b_enc": torch.zeros(len(directions)),
            "b_dec": torch.zeros(D) if b_dec is None else b_dec,
            "activation_mean": mean,
        }
    )


def evaluated(world, tmp_path, dictionary, **changes):
    install(world, tmp_path / "run", dictionary)
    return document_of(evaluate.run(world.eval(tmp_path / "run", **changes), tmp_path / "run", "default"))["eval"]


def test_identity_recovers_everything(world, tmp_path):
    both_signs = torch.cat([torch.eye(D), -torch.eye(D)])
    report = evaluated(world, tmp_path, dictionary_of(torch.zeros(D), directions=both_signs))
    assert report["fvu"] == pytest.approx(0, abs=1e-10)
    assert report["ce_sae"] == pytest.approx(report["ce_clean"], abs=1e-7)
    assert report["kl_sae"] == pytest.approx(0, abs=1e-9)
    assert report["l0"] == pytest.approx(D, abs=0.01)


def test_zero_recovers_nothing_and_leaves_every_feature_dead(world, tmp_path):
    report = evaluated(world, tmp_path, dictionary_of(torch.zeros(D)))
    assert report["ce_sae"] == report["ce_zero"]
    assert (report["l0"], report["alive"], report["dead"]) == (0, 0, 2)


def test_the_training_mean_recovers_nothing_over_the_mean(world, tmp_path):
    mean = torch.linspace(-1, 1, D)
    report = evaluated(world, tmp_path, dictionary_of(mean, b_dec=mean))
    assert report["ce_sae"] == report["ce_mean"]


def test_the_evaluated_mean_has_fvu_one_and_an_offset_is_punished(world, tmp_path):
    zero = evaluated(world, tmp_path, dictionary_of(torch.zeros(D)))
    _, _, x = held_out_activations(world)
    centered = (x - x.mean(dim=0)).square().sum()
    assert zero["fvu"] == pytest.approx((x.square().sum() / centered).item(), rel=1e-6)
    report = evaluated(world, tmp_path / "mean", dictionary_of(torch.zeros(D), b_dec=x.mean(dim=0).float()))
    assert report["fvu"] == pytest.approx(1, rel=1e-6)
    offset = evaluated(world, tmp_path / "offset", dictionary_of(torch.zeros(D), b_dec=x.mean(dim=0).float() + 1))
    assert offset["fvu"] == pytest.approx(1 + D * len(x) / centered.item(), rel=1e-5)


def held_out_activations(world):
    from sae_cli.build import row_stream
    from sae_cli.config.hook import HookPoint
    from sae_cli.config.split import Split
    from sae_cli.models import Site, load_language_model

    model = load_language_model(str(world.model))
    site = Site(HookPoint.mlp_out, 1)
    stream = row_stream(world.train("").data, model, Split.held_out)
    rows = torch.cat([torch.from_numpy(block.tokens) for block in stream.one_epoch(4)])[: -(-1000 // 31)]
    return model, site, model.capture(rows, [site])[site][:, 1:].flatten(0, 1).double()


@pytest.mark.parametrize(
    "exclude", [[Exclude.first], [], [Exclude.eos], [Exclude.eos, Exclude.first, Exclude.pad, Exclude.bos]]
)
def test_losses_against_the_model_spliced_by_hand(world, tmp_path, exclude):
    """Cross-entropies computed here in float64 from the model's own hooks, not through the product's."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, D, generator=generator), dim=1)
    dictionary = dictionary_of(torch.full((D,), 0.1), directions=directions)
    report = evaluated(world, tmp_path, dictionary, eval=first_rows(1000, exclude=exclude), ablate=[3])
    model, _, _ = held_out_activations(world)
    from sae_cli.build import row_stream
    from sae_cli.config.split import Split

    stream = row_stream(world.train("").data, model, Split.held_out)
    rows = torch.cat([torch.from_numpy(block.tokens) for block in stream.one_epoch(4)])[: -(-1000 // 31)]
    counted = torch.ones_like(rows, dtype=torch.bool)
    if Exclude.first in exclude:
        counted[:, 0] = False
    if Exclude.eos in exclude:
        end = torch.tensor(model.tokenizer.eos_token_id)
        assert (rows[:, 1:] == end).any()
        counted &= rows != end
    replacements = {"clean": lambda x: x, "sae": dictionary, "zero": torch.zeros_like, "mean": lambda x: x * 0 + 0.1}
    mlp = model.hf.get_submodule("gpt_neox.layers.1.mlp")
    read = counted[:, :-1]
    for name, function in replacements.items():
        seen = {}

        def hook(module, args, output, function=function, seen=seen):
            seen["x"] = output
            return torch.where(counted[..., None], function(output), output)

        handle = mlp.register_forward_hook(hook)
        with torch.no_grad():
            logits = model.hf(rows).logits.double()
        handle.remove()
        losses = torch.nn.functional.cross_entropy(logits[:, :-1][read], rows[:, 1:][read])
        assert report[f"ce_{name}"] == pytest.approx(losses.item(), rel=1e-5), name
    x = seen["x"][counted].double()
    error = (x - dictionary(seen["x"])[counted].double()).square().sum()
    assert report["fvu"] == pytest.approx((error / (x - x.mean(dim=0)).square().sum()).item(), rel=1e-5)
    assert report["ablation"][0]["tokens"] == int((dictionary.encode(seen["x"])[counted][:, 3] > 0).sum())
    assert (report["tokens"], report["loss_tokens"]) == (int(counted.sum()), int(read.sum()))
    assert ("the first of each row" in report["positions"]) is (Exclude.first in exclude)
    assert ("eos (" in report["positions"]) is (Exclude.eos in exclude)


def test_batch_sizes_do_not_matter(world, tmp_path):
    generator = torch.Generator().manual_seed(0)
    dictionary = dictionary_of(torch.zeros(D), directions=torch.randn(24, D, generator=generator) / 4)
    a = evaluated(world, tmp_path / "a", dictionary, model_rows=1)
    b = evaluated(world, tmp_path / "b", dictionary, model_rows=7)
    assert set(a) == set(b)
    for name, value in a.items():
        assert b[name] == (pytest.approx(value, rel=1e-5, abs=1e-7) if isinstance(value, float) else value), name


def test_artifacts_of_an_evaluation(world, tmp_path):
    train.run(world.train(tmp_path), tmp_path / "run")
    manifest = (tmp_path / "run" / "manifest.json").read_bytes()
    config = world.eval(tmp_path / "run")
    evaluate.run(config, tmp_path / "run", "default")
    evaluate.run(replace(config, eval=first_rows(500)), tmp_path / "run", "1234abcd")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == manifest
    default = read_run(tmp_path / "run" / "eval" / "default", "eval")
    assert set(default.manifest.files) == {"config.yaml", "eval.json", "features.safetensors", "rows.safetensors"}
    beside = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert beside == default.read_json("eval.json")
    assert {name for name, value in beside.items() if _is_figure(value)} <= {*EVALUATION, *GROUPS}
    assert (
        beside["tokens"] >= 1000 > json.loads((tmp_path / "run/eval/1234abcd/eval.json").read_text())["tokens"] >= 500
    )
    features = default.read_tensors("features.safetensors")
    assert features["count"].dtype == torch.int64 and features["tokens"].tolist() == [1500]
    assert beside["alive"] == int((features["count"] > 0).sum())
    assert [parent.path for parent in default.manifest.parents] == [str(tmp_path / "run")]


def _is_figure(value):
    return value is None or isinstance(value, int | float | dict)


def test_what_cannot_be_evaluated_is_named(world, tmp_path):
    with pytest.raises(RequestError, match="no run here"):
        evaluate.run(world.eval(tmp_path / "none"), tmp_path / "none", "default")
    install(
        world, tmp_path / "run", ReluDictionary({n: torch.zeros(s) for n, s in ReluDictionary.shapes(3, 5, 5).items()})
    )
    with pytest.raises(JobError, match=r"width 5, but mlp_out\.1 has width 16"):
        evaluate.run(world.eval(tmp_path / "run"), tmp_path / "run", "default")


def test_baselines_that_do_not_exist_here_are_refused_before_anything_is_measured(world, tmp_path):
    with pytest.raises(RequestError, match="expected hook=mlp_act"):
        evaluated(world, tmp_path, dictionary_of(torch.zeros(D)), baselines=[Baseline.neurons])


def test_baselines_are_held_to_the_dictionarys_l0(world, tmp_path):
    directions = torch.nn.functional.normalize(torch.randn(24, D, generator=torch.Generator().manual_seed(0)), dim=1)
    report = evaluated(
        world, tmp_path, dictionary_of(torch.zeros(D), directions=directions), baselines=[Baseline.pca, Baseline.random]
    )
    for figures in report["baselines"].values():
        assert report["l0"] <= figures["l0"] < report["l0"] + 1
    assert report["baselines"]["pca"]["fvu"] < report["baselines"]["random"]["fvu"]


def test_baselines_are_held_to_the_dictionarys_bits(world, tmp_path):
    directions = torch.nn.functional.normalize(torch.randn(24, D, generator=torch.Generator().manual_seed(0)), dim=1)
    known = dictionary_of(torch.zeros(D), directions=directions)
    report = evaluated(world, tmp_path, known, baselines=[Baseline.pca_at_bits, Baseline.random_at_bits])
    assert report["bits"] > report["l0"] and report["bits_se"] > 0 and report["bits_step"] > 0
    for figures in report["baselines"].values():
        of_a_coefficient = figures["bits"] / figures["l0"]
        assert abs(figures["bits"] - report["bits"]) < 1.5 * of_a_coefficient


def test_controls_are_measured_on_the_same_rows(world, tmp_path):
    directions = torch.nn.functional.normalize(torch.randn(24, D, generator=torch.Generator().manual_seed(0)), dim=1)
    both_signs = torch.cat([torch.eye(D), -torch.eye(D)])
    known, worse = (dictionary_of(torch.zeros(D), directions=each) for each in (both_signs, directions))
    install(world, control := tmp_path / "control", worse)
    report = evaluated(world, tmp_path, known, control=[str(control)], eval=first_rows(3000))
    found = report["controls"][str(control)]
    alone = json.loads(next((control / "eval").glob("*/eval.json")).read_text())
    for key in ("fvu", "ce_increase", "bits"):
        assert found[key] == alone[key]
        assert found[f"{key}_more"] == pytest.approx(report[key] - alone[key], abs=1e-9)
        assert found[f"{key}_more_low"] < found[f"{key}_more"] < found[f"{key}_more_high"]
    assert found["recovered_above"] == pytest.approx(1, abs=1e-6)  # of what it leaves, everything
    parents = read_run(tmp_path / "run" / "eval" / "default").manifest.parents
    assert [str(each.path).rpartition("/")[2] for each in parents] == ["run", "control"]
    again = evaluate.run(world.eval(tmp_path / "run", control=[str(control)], eval=first_rows(3000)), tmp_path / "run")
    shown = {each[0]: each[1] for each in again.table}
    assert f"CE increase {alone['ce_increase']:.4f}" in shown[f"control {control}"]
    ends = (found["ce_increase_more"], found["ce_increase_more_low"], found["ce_increase_more_high"])
    assert "{:+.4f} ({:+.4f} to {:+.4f}), of these two".format(*ends) == shown["  CE increase, more than the control"]


def test_what_is_no_control_is_named(world, tmp_path):
    with pytest.raises(RequestError, match="is the dictionary that is evaluated"):
        evaluated(world, tmp_path, dictionary_of(torch.zeros(D)), control=[str(tmp_path / "run")])
    with pytest.raises(RequestError, match=r"control=.*nowhere.*; a control is a dictionary"):
        evaluate.run(world.eval(tmp_path / "run", control=[str(tmp_path / "nowhere")]), tmp_path / "run", "default")
    with pytest.raises(ValueError, match="twice: give each dictionary once"):
        world.eval(tmp_path / "run", control=["a", "a"])


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_run_is_evaluated_into_another_place_with_the_same_figures(world, tmp_path):
    for name in ("run", "other/run"):
        install(world, tmp_path / name, dictionary_of(torch.zeros(D), directions=torch.eye(D)[: 1 + len(name)]))
    before, out = contents(tmp_path / "run"), tmp_path / "out"
    first = evaluate.run(world.eval(tmp_path / "run", out=str(out)), tmp_path / "run", "default")
    assert contents(tmp_path / "run") == before
    (place,) = out.iterdir()
    assert json.loads((place / "eval.json").read_text()) == document_of(first)["eval"]
    assert (place / "eval" / "default" / "manifest.json").is_file()
    other = evaluate.run(world.eval(tmp_path / "other/run", out=str(out)), tmp_path / "other/run", "default")
    assert document_of(other)["eval"]["features"] == 10 and len(list(out.iterdir())) == 2
    own = evaluate.run(world.eval(tmp_path / "run"), tmp_path / "run", "default")
    assert document_of(own)["eval"] == document_of(first)["eval"]


def test_a_run_that_cannot_be_written_is_said_before_anything_is_measured(world, tmp_path, monkeypatch):
    install(world, tmp_path / "run", dictionary_of(torch.zeros(D)))
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: access(path, mode) and not str(path).endswith("run"))
    monkeypatch.setattr("sae_cli.evaluation.evaluate.make_subject", None)
    with pytest.raises(JobError) as caught:
        evaluate.run(world.eval(tmp_path / "run"), tmp_path / "run", "default")
    run = tmp_path / "run"
    assert str(caught.value) == (
        f"{run}: cannot be written; get write access to that folder, or measure it into another: sae eval {run} out=DIR"
    )


def test_figures_of_older_definitions_are_measured_again(world, tmp_path, monkeypatch, capsys):
    """And where they are only read, it is said; those of these definitions are served as they are."""
    install(world, tmp_path / "run", dictionary_of(torch.zeros(D)))
    config = world.eval(tmp_path / "run")
    with monkeypatch.context() as before:
        before.setattr("sae_cli.evaluation.evaluate.VERSION", 1)
        assert document_of(evaluate.run(config, tmp_path / "run", "default"))["eval"]["metrics_version"] == 1
    capsys.readouterr()
    subject(tmp_path / "run")
    said = "eval/default: its figures are by version 1 of the definitions, not 4"
    assert f"{said}; sae eval makes it again" in capsys.readouterr().err
    assert document_of(evaluate.run(config, tmp_path / "run", "default"))["eval"]["metrics_version"] == 4
    assert f"{said}; measuring again" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "eval.json").read_text())["metrics_version"] == 4
    subject(tmp_path / "run")
    evaluate.run(config, tmp_path / "run", "default")
    last = capsys.readouterr().err
    assert "already finished" in last and "definitions" not in last
