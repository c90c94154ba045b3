"""`sae report` on small runs made by hand: what is in the page is what is in the artifacts."""

import json

import numpy as np
import pytest

from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.manifest import write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.cli.main import run as sae
from sae_cli.commands import report
from sae_cli.errors import JobError, RequestError
from sae_cli.metrics import VERSION

F = 40


@pytest.fixture
def whole(make):
    """A run with everything."""
    made = make.train("a")
    make.pages(made)
    return made


def page_of(opened, directories, out=None):
    return opened(report.run(directories, out).path.read_bytes())


def test_one_run_with_everything(opened, whole):
    found = page_of(opened, [whole.directory])
    names = [each["name"] for each in found.data["charts"]]
    assert names[:3] == ["curve", "frequency", "density3d"]
    assert {"density_bias", "density_projection", "bias_projection", "trajectories"} <= set(names)
    assert {"rare_features", "max_act", "encoder_norm", "baselines", "equivalent_model"} <= set(names)
    assert [about["class"] for _, about in found.elements if "missing" in (about.get("class") or "")] == ["missing"]
    assert "drawn by scripts in this file" in found.text  # that one


def test_charts_hold_the_artifacts(opened, whole):
    found = page_of(opened, [whole.directory])
    lines = [json.loads(line) for line in whole.read_bytes("metrics.jsonl").splitlines()]
    assert list(found.column("curve", "loss")) == [line["loss"] for line in lines]
    features = report.subject(whole.directory).evaluations[0].features
    frequency = features["frequency"].numpy()
    assert sum(found.column("frequency", "features")) == F - 1  # all that fire
    series = found.chart("density3d")["series"]
    columns = {
        key: np.concatenate([found.numbers(each["columns"][key]) for each in series])
        for key in ("feature", "frequency", "b_enc", "de_projection", "count")
    }
    order = np.argsort(columns["feature"])
    alive = np.flatnonzero(frequency)
    np.testing.assert_array_equal(columns["feature"][order], alive)
    for key in ("frequency", "b_enc", "de_projection", "count"):
        np.testing.assert_array_equal(columns[key][order], features[key].numpy()[alive])
    history = whole.read_tensors("density_history.safetensors")
    of_single = found.chart("rare_features")["series"]
    for number, each in enumerate(of_single):
        chosen = found.column("rare_features", "feature", number).reshape(-1, 4)[:, 0]
        counts = found.column("rare_features", "count", number).reshape(-1, 4)
        np.testing.assert_array_equal(counts, history["count"].numpy()[:, chosen].T)
        assert set(history["exempt"].numpy()[chosen].tolist()) == {each["name"].startswith("exempt")}


def test_the_sheets_hold_the_contexts(opened, make, whole):
    found = page_of(opened, [whole.directory])
    pages = found.data["features"]
    kept = report.subject(whole.directory).pages[0].read_tensors("contexts.safetensors")
    tokens = found.numbers(pages["tokens"])
    assert (tokens == 65535).tolist() == (kept["tokens"] < 0).tolist()
    np.testing.assert_array_equal(found.numbers(pages["activations"]), kept["activations"].numpy())
    np.testing.assert_array_equal(tokens[0, 0, 1:], kept["tokens"][0, 0, 1:].numpy())  # every word is used
    assert pages["words"][:4] == ["<script>alert(1)</script>", "\\u202egpj.exe", "\\x1b[2J", "a\\u2028b"]
    assert pages["documents"] == ["<b>one</b>.py", "two.py"]
    assert "tokens of the train split, statistics from the 1,234 tokens of the evaluation." in found.content
    assert "<script>alert" not in found.content
    assert "<b>one" not in found.content


def test_what_is_not_there_is_left_out_with_the_command(opened, make, whole):
    bare = make.train("bare")
    for path in sorted((bare.directory / "eval" / "default").iterdir()):
        path.unlink()
    found = page_of(opened, [bare.directory])
    assert f"sae eval {bare.directory}" in found.text
    assert f"sae features {bare.directory}" in found.text
    assert [each["name"] for each in found.data["charts"]] == ["curve"]
    assert found.data["features"] is None


def test_a_pruned_run_is_shown_beside_what_it_was_made_of(opened, make, whole):
    pruned = make.train("pruned", seed=1, parent=whole)
    found = page_of(opened, [pruned.directory])
    assert [each["name"] for each in found.chart("frequency")["series"]] == ["after pruning", "before pruning"]
    assert found.chart("frequency")["lines"][0] == {"axis": "x", "value": 0.2, "label": "max_freq 0.2", "panel": 0}
    assert "Before and after" in found.text
    assert "pruned" in found.text


def test_a_comparison(opened, make, whole):
    other = make.train("b", seed=2)
    compared = make.compare("c", whole, other)
    found = page_of(opened, [compared.directory])
    cosine = compared.read_tensors("similarity.safetensors")["0_1.cosine"].numpy()
    counted, edges = found.column("similarity_0_1", "features"), found.column("similarity_0_1", "from")
    assert counted.sum() == F
    assert counted[-1] == (cosine >= edges[-1]).sum()
    assert [each["label"] for each in found.chart("similarity_0_1")["lines"]] == [
        "random floor",
        "subspace floor",
        "MMCS",
    ]


def test_several_runs_make_a_frontier(opened, make, whole):
    runs = [whole, make.train("b", seed=2, l0=20.0), make.train("p", seed=1, l0=5.0, parent=whole)]
    report.run([whole.directory])
    written = report.run([each.directory for each in runs])
    assert written.path.resolve() == (make.root / "report.html").resolve()
    found = opened(written.path.read_bytes())
    trained, pruned, joined = found.chart("frontier_loss_recovered")["series"]
    assert (trained["length"], pruned["length"], joined["length"]) == (2, 1, 2)
    assert found.column("frontier_fvu", "l0").tolist() == [12.0, 20.0]
    assert found.column("frontier_fvu", "l0", 2).tolist() == [12.0, 5.0]
    assert ("a", {"href": "./a/report.html"}) in found.elements
    assert found.column("frontier_fvu", "report") == ["./a/report.html", ""]


def test_a_folder_of_runs_and_a_parent_that_is_not_named(opened, make, whole):
    pruned = make.train("sub/p", seed=1, l0=5.0, parent=whole)
    make.train("sub/q", seed=3)
    found = page_of(opened, [pruned.directory.parent])
    assert [each["length"] for each in found.chart("frontier_fvu")["series"]] == [1, 2, 2]


def test_equal_runs_are_equal_reports(whole, tmp_path):
    first, second = (report.run([whole.directory], tmp_path / name).path.read_bytes() for name in ("1.html", "2.html"))
    assert first == second


def test_nothing_but_a_report_is_replaced(whole, tmp_path):
    notes = tmp_path / "notes.html"
    notes.write_text("mine")
    with pytest.raises(RequestError, match=r"notes\.html: expected a report to replace, or nothing, found a file"):
        report.run([whole.directory], notes)
    with pytest.raises(RequestError, match="found a folder"):
        report.run([whole.directory], tmp_path)
    assert notes.read_text() == "mine"
    for _ in range(2):
        assert report.run([whole.directory], tmp_path / "new" / "r.html").path.is_file()


def test_damage_is_one_line(whole):
    path = whole.directory / "eval" / "default" / "features.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(JobError, match="damaged file"):
        report.run([whole.directory])


def rewrite(run, name, content):
    """Put something else into a finished run, as if it had been made so."""
    run.manifest.files[name] = write_json(run.directory / name, content)
    write_manifest(run.directory, run.manifest)


def change_figures(run, **changes):
    evaluation = read_run(run.directory / "eval" / "default")
    rewrite(evaluation, "eval.json", evaluation.read_json("eval.json") | changes)


NO_LOSS_RECOVERED = {
    "loss_recovered": None,
    "loss_recovered_se": None,
    "zero_ablation_effect": -0.25,
    "zero_ablation_effect_se": 0.0125,
    "domains": {"code": {"tokens": 50, "ce_clean": 2.0, "ce_increase": 0.5, "loss_recovered": None}},
}


def test_a_loss_recovered_that_does_not_exist_is_said(opened, make, whole):
    pruned = make.train("pruned", seed=1, parent=whole)
    for each in (whole, pruned):
        change_figures(each, **NO_LOSS_RECOVERED)
    before = {"before": {"features": F, "l0": 20.0, "loss_recovered": None}}
    change_figures(pruned, **before)
    found = page_of(opened, [pruned.directory])
    assert "does not exist: zero ablation does not clearly raise the loss (-0.2500 ± 0.0125 nats)" in found.text
    assert "code5020.5does not exist" in found.text  # the row of a domain
    assert "dictionary120.12does not exist0.012" in found.text  # and that beside the baselines


def test_a_frontier_names_those_without_loss_recovered(opened, make, whole):
    other = make.train("b", seed=2, l0=20.0)
    change_figures(other, **NO_LOSS_RECOVERED)
    found = page_of(opened, [whole.directory, other.directory])
    assert [each["length"] for each in found.chart("frontier_loss_recovered")["series"]] == [1]
    assert found.text.count("does not exist") == 2  # in the table of runs, and beside the charts
    assert "for 1 of 2, whose zero ablation does not clearly raise the loss: b." in found.text


@pytest.mark.parametrize("version", [1, None])
def test_figures_by_other_definitions_are_said(make, whole, capsys, version):
    compared, pages = make.compare("c", whole, whole), read_run(whole.directory / "features" / "default")
    for run, name in ((compared, "compare.json"), (pages, "sheets.json")):
        old = {key: value for key, value in run.read_json(name).items() if key != "metrics_version"}
        rewrite(run, name, old | ({"metrics_version": version} if version else {}))
    report.run([whole.directory])
    report.run([compared.directory])
    said = (
        f"version 1 of the definitions, not {VERSION}" if version else f"a version of the definitions before {VERSION}"
    )
    errors = capsys.readouterr().err
    assert f"c: its figures are by {said}; sae compare makes it again" in errors
    assert f"features/default: its figures are by {said}; sae features makes it again" in errors


def test_figures_of_another_form_are_one_line(make, whole):
    compared = make.compare("c", whole, whole)
    rewrite(compared, "compare.json", {"pairs": 3, "metrics_version": VERSION})
    with pytest.raises(JobError, match="expected the figures of a finished run"):
        report.run([compared.directory])


def test_no_run_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="no finished run here"):
        report.run([tmp_path])


@pytest.mark.parametrize("words", [["--out", "r.html"], ["out=r.html"], []])
def test_the_command_prints_the_path(whole, words, capsys, monkeypatch):
    monkeypatch.chdir(whole.directory.parent)
    assert sae(["report", "a", *words]) == 0
    assert capsys.readouterr().out == ("r.html\n" if words else "a/report.html\n")


def test_json_says_how_large_it_is(whole, capsys):
    assert sae(["report", str(whole.directory), "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["bytes"] == (whole.directory / "report.html").stat().st_size


def test_a_report_is_no_damage_of_its_run(whole, capsys):
    report.run([whole.directory])
    assert sae(["verify", str(whole.directory), "--json", "--quiet"]) == 0
    assert "unlisted" not in capsys.readouterr().out
