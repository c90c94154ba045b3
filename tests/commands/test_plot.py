"""Figures for papers: what is drawn is what the artifacts say, and the same runs make the same bytes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.artifacts.tensors import read_tensors
from sae_cli.commands.plot import Kind, PlotRequest, charts_of, run
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, TRAINING_FILE, as_yaml
from sae_cli.errors import RequestError
from sae_cli.runs.dictionary_run import PRUNE

matplotlib = pytest.importorskip("matplotlib")
from mpl_toolkits.mplot3d.art3d import Path3DCollection  # noqa: E402

from sae_cli.reports.paper import draw, for_papers  # noqa: E402
from tests.known import the  # noqa: E402

F, N = 200, 100_000


def write_evaluation(directory, seed, features=F, name="default", **changes):
    rng = np.random.default_rng(seed)
    count = np.floor(N * 10 ** rng.uniform(-5.5, -0.2, features)).astype(np.int64)
    count[:7] = 0
    tensors = {
        "count": torch.from_numpy(count),
        "tokens": torch.tensor([N]),
        "frequency": torch.from_numpy(count / N),
        "b_enc": torch.from_numpy(rng.normal(size=features).astype(np.float32)),
        "de_projection": torch.from_numpy(rng.normal(1, 0.2, features).astype(np.float32)),
    }
    report = {
        "l0": float(count.sum() / N), "fvu": 0.1 + 0.05 * seed, "loss_recovered": 0.9 - 0.05 * seed,
        "loss_recovered_se": 0.01, "ce_increase": 0.02 + 0.01 * seed, "ce_increase_se": 0.002,
        "rare": {"below": 1e-4}, "tokens": 1000,
    }  # fmt: skip
    with open_run(directory / "eval" / name, "eval", {}) as evaluation:
        evaluation.write_tensors("features.safetensors", tensors)
        evaluation.write_json("eval.json", report | changes)
        evaluation.finish()


def write_trained(world, directory, seed=0, **changes):
    config = world.train(directory.parent, dict_size=F, **changes)
    with open_run(directory, "train", result_settings(config)) as made:
        made.write_text(CONFIG_FILE, as_yaml(config))
        for step in range(50, 1001, 50):
            line = {"step": step, "tokens": 128 * step, "loss": 1e4 / step, "fvu": 50.0 / step, "l0": 10 + 100 / step}
            made.append_line("metrics.jsonl", {**line, **({"held_out_fvu": 60 / step} if step % 250 == 0 else {})})
        made.finish(tokens=128_000, source="live", width=16)
    write_evaluation(directory, seed)


def write_pruned(world, directory, parent, **limits):
    config, source = PruneConfig(run=str(parent), **limits), read_run(parent)
    with open_run(directory, PRUNE, result_settings(config), parents=[source]) as made:
        made.write_text(CONFIG_FILE, as_yaml(config))
        made.write_text(TRAINING_FILE, as_yaml(world.train(directory.parent, dict_size=F)))
        made.finish(killed=20, threshold=0.09, tokens=128_000, source="live", width=16)
    write_evaluation(directory, seed=3, features=F - 20)


def without_loss_recovered(directory, seed):
    """Zero ablation does not raise the loss of this one."""
    shutil.rmtree(directory / "eval")
    write_evaluation(directory, seed, loss_recovered=None, loss_recovered_se=None)


@pytest.fixture
def runs(world, tmp_path):
    """Two dictionaries, and one that was pruned of the first."""
    write_trained(world, tmp_path / "l1_1", l1=1.0)
    write_trained(world, tmp_path / "l1_3", seed=1, l1=3.0)
    write_pruned(world, tmp_path / "pruned", tmp_path / "l1_1", max_freq=0.1)
    return {name: tmp_path / name for name in ("l1_1", "l1_3", "pruned")}


def statistics(directory):
    return {
        name: tensor.numpy() for name, tensor in read_tensors(directory / "eval/default/features.safetensors").items()
    }


def drawn(kind, *paths, columns=2):
    charts = charts_of(PlotRequest(runs=paths, kind=kind, out=paths[0] / "none.pdf"))
    with for_papers():
        return draw(charts, columns)


def stairs(axis, label):
    (found,) = (patch for patch in axis.patches if patch.get_label() == label)
    return found.get_data()


def marks(axis):
    """Points, with error bars and without."""
    with_bars = [point for each in axis.containers for point in each[0].get_xydata()]
    return [tuple(each) for each in [*with_bars, *(point for each in axis.collections for point in offsets(each))]]


def offsets(collection):
    """Error bars are a collection too, of segments, and have none."""
    return [] if hasattr(collection, "get_segments") else np.asarray(collection.get_offsets())


def test_frequency(runs):
    (axis,) = drawn(Kind.frequency, runs["pruned"]).axes
    values, edges, _ = stairs(axis, "after pruning")
    frequency = statistics(runs["pruned"])["frequency"]
    alive = frequency[frequency > 0]
    for value, low, high in zip(values, edges[:-1], edges[1:], strict=True):
        assert value == ((alive >= low) & ((alive < high) | (high == edges[-1]))).sum()
    assert values.sum() == len(alive)
    dead = len(frequency) - len(alive)
    before = statistics(runs["l1_1"])["frequency"]
    assert stairs(axis, "before pruning").values.sum() == (before > 0).sum()
    (threshold,) = (line for line in axis.lines if line.get_gid() == "max_freq 0.1")
    assert np.asarray(threshold.get_xdata())[0] == 0.1
    key = axis.get_title("right")
    assert f"dead: {dead} ({dead / len(frequency):.1%}".replace("%", " %)") in key
    assert f"10 %: {(frequency > 0.1).sum()} (" in key
    assert f"tokens: {((frequency > 0) & (frequency < 1e-4)).sum()} (" in key


def test_frequencies_of_several_are_below_each_other(runs):
    assert [len(axis.patches) for axis in drawn(Kind.frequency, runs["l1_1"], runs["l1_3"], columns=1).axes] == [1, 1]


def test_density3d(runs):
    space, *sides = drawn(Kind.density3d, runs["l1_1"]).axes
    found = statistics(runs["l1_1"])
    alive = found["count"] > 0
    expected = {name: found[name][alive] for name in ("frequency", "b_enc", "de_projection")}
    in_space = [np.log10(expected["frequency"]), expected["b_enc"], expected["de_projection"]]
    points = np.concatenate([np.stack(the(Path3DCollection, each)._offsets3d) for each in space.collections], axis=1)
    assert np.allclose(sorted(map(tuple, points.T)), sorted(zip(*in_space, strict=True)))
    for axis in sides:
        names = {"share": "frequency", "encode": "b_enc", "D/E pr": "de_projection"}
        x, y = (
            expected[names[label[: 6 if label[0] != "s" else 5]]] for label in (axis.get_xlabel(), axis.get_ylabel())
        )
        points = np.concatenate([np.asarray(each.get_offsets()) for each in axis.collections])
        assert np.allclose(sorted(map(tuple, points)), sorted(zip(x, y, strict=True)))
    rare = next(each for each in space.collections if "less than" in str(each.get_label()))
    assert len(the(Path3DCollection, rare)._offsets3d[0]) == (alive & (found["frequency"] < 1e-4)).sum()


@pytest.mark.parametrize("given", [("l1_1", "l1_3", "pruned"), ("l1_3", "pruned")])
def test_frontier(runs, given):
    """Also where what was pruned is not named: it comes along."""
    figure = drawn(Kind.frontier, *(runs[name] for name in given))
    reports = {name: read_run(path / "eval" / "default").read_json("eval.json") for name, path in runs.items()}
    for axis, name in zip(figure.axes, ("loss_recovered", "fvu", "ce_increase"), strict=True):
        points = {label: (each["l0"], each[name]) for label, each in reports.items()}
        assert sorted(marks(axis)) == sorted(points.values())
        (joined,) = (line for line in axis.lines if line.get_gid() == "pruned from")
        assert sorted(map(tuple, np.asarray(joined.get_xydata()))) == sorted([points["l1_1"], points["pruned"]])
    (low, high), *_ = figure.axes[0].containers[0][2][0].get_segments()
    assert high[1] - low[1] == pytest.approx(0.02)


def test_curve(runs):
    axes = drawn(Kind.curve, runs["l1_1"]).axes
    assert [axis.get_ylabel() for axis in axes] == ["loss", "FVU", "L0, features a token"]
    lines = [json.loads(line) for line in (runs["l1_1"] / "metrics.jsonl").read_text().splitlines()]
    for axis, name in zip(axes, ("loss", "fvu", "l0"), strict=True):
        assert np.asarray(axis.lines[0].get_xydata()).tolist() == [[each["tokens"], each[name]] for each in lines]
    held_out = [[each["tokens"], each["held_out_fvu"]] for each in lines if "held_out_fvu" in each]
    assert np.asarray(axes[1].lines[1].get_xydata()).tolist() == held_out and len(held_out) == 4


def test_curves_of_several_have_a_color_each(runs):
    axes = drawn(Kind.curve, runs["l1_1"], runs["l1_3"]).axes
    assert [line.get_label() for line in axes[1].lines] == ["l1_1", "l1_1, held out", "l1_3", "l1_3, held out"]
    colors = [line.get_color() for line in axes[1].lines]
    assert colors[0] == colors[1] != colors[2] == colors[3]


@pytest.mark.parametrize(
    ("kind", "suffix"), [*((kind, "pdf") for kind in Kind), (Kind.frequency, "svg"), (Kind.frequency, "png")]
)
def test_the_same_runs_make_the_same_bytes(runs, tmp_path, kind, suffix):
    written = []
    for number in (1, 2):
        out = tmp_path / f"{number}.{suffix}"
        assert run(PlotRequest(runs=[runs["l1_1"]], kind=kind, out=out)).path == out
        written.append(out.read_bytes())
    assert written[0] == written[1]
    if suffix == "pdf":
        assert b"/CIDFontType2" in written[0] and b"/Type3" not in written[0] and b"CreationDate" not in written[0]


def test_the_numbers_come_as_json_too(runs, tmp_path):
    document: dict[str, Any] = run(PlotRequest(runs=[runs["l1_1"]], kind=Kind.curve, out=tmp_path / "x.svg")).document()
    (loss, *_) = document["charts"][0]["series"]
    assert loss["columns"]["loss"][:2] == [200.0, 100.0] and loss["columns"]["step"][:2] == [50.0, 100.0]


def test_names_with_a_dollar_and_what_does_not_print(runs, tmp_path):
    (tmp_path / "l1_3").rename(odd := tmp_path / "a$_{b$\x07")
    figure = drawn(Kind.curve, runs["l1_1"], odd)
    assert figure.axes[1].lines[2].get_label() == r"a$_{b$\x07"
    run(PlotRequest(runs=[runs["l1_1"], odd], kind=Kind.curve, out=tmp_path / "x.pdf"))


def test_which_evaluation(world, tmp_path):
    write_trained(world, tmp_path / "a")
    write_evaluation(tmp_path / "a", 5, name="12ab34cd")
    request = PlotRequest(runs=[tmp_path / "a"], kind=Kind.frequency, out=tmp_path / "x.pdf")
    default, other = (charts_of(replace(request, evaluation=name))[0].key for name in (None, "12ab34cd"))
    assert default != other
    with pytest.raises(RequestError, match=r"a: no finished evaluation none; there is default, 12ab34cd$"):
        run(replace(request, evaluation="none"))


def test_wrong_requests(runs, tmp_path, monkeypatch):
    request = PlotRequest(runs=[runs["l1_1"], runs["l1_3"]], kind=Kind.density3d, out=tmp_path / "x.pdf")
    with pytest.raises(RequestError, match="kind=density3d shows one run, found 2; give one"):
        run(request)
    with pytest.raises(RequestError, match="eval=x has no effect with kind=curve: leave it out"):
        run(replace(request, kind=Kind.curve, evaluation="x"))
    with pytest.raises(RequestError, match="pruned: a prune-high-freq run has no training curve; give a train run"):
        run(replace(request, kind=Kind.curve, runs=[runs["pruned"]]))
    shutil.rmtree(runs["l1_3"] / "eval")
    with pytest.raises(RequestError, match=r"l1_3: no finished evaluation; run sae eval .*l1_3$"):
        run(replace(request, kind=Kind.frontier))
    monkeypatch.setattr("sae_cli.commands.plot.find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"which is not installed: pip install 'sae-cli\[plot\]'$"):
        run(request)


def frontier_of(runs, folder):
    return charts_of(PlotRequest(runs=[runs["l1_1"], runs["l1_3"]], kind=Kind.frontier, out=folder / "f.svg"))


def test_what_has_no_loss_recovered_is_named_beside_the_frontier(runs, tmp_path, capsys):
    without_loss_recovered(runs["l1_3"], seed=1)
    charts = {each.name: each for each in frontier_of(runs, tmp_path)}
    assert list(charts["frontier_loss_recovered"].series[0].columns["loss_recovered"]) == [0.9]
    assert len(charts["frontier_ce_increase"].series[0].columns["l0"]) == 2
    said = "Loss recovered does not exist for 1 of 2, whose zero ablation does not clearly raise the loss: l1_3."
    assert f"warning: {said}" in capsys.readouterr().err


def test_a_frontier_without_any_loss_recovered(runs, tmp_path, capsys):
    for seed, name in enumerate(("l1_1", "l1_3")):
        without_loss_recovered(runs[name], seed)
    charts = frontier_of(runs, tmp_path)
    assert {each.name for each in charts} == {"frontier_fvu", "frontier_ce_increase"}
    assert "Loss recovered does not exist for 2 of 2" in capsys.readouterr().err
