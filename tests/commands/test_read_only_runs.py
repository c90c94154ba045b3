"""Runs that may be read and not written, as another's are: all that is measured of them goes elsewhere."""

import json
import shutil

import pytest

from sae_cli.commands import compare, features, harvest, list_runs, report, train
from sae_cli.commands import prune_high_freq as prune
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.evaluation import ContextsConfig, EvaluationConfig, FeaturePassConfig
from sae_cli.errors import JobError
from sae_cli.evaluation import evaluate
from sae_cli.runs.file_names import DEFAULT
from tests.known import document_of

FAST = {
    "device": "cpu",
    "model_rows": 4,
    "eval": EvaluationConfig(tokens=200),
    "features": FeaturePassConfig(tokens=300),
}


@pytest.fixture(scope="module")
def original(world, tmp_path_factory):
    directory = tmp_path_factory.mktemp("original") / "run"
    train.run(world.train(directory.parent, tokens=512, l1=0.05), directory)
    return directory


@pytest.fixture
def theirs(original, tmp_path):
    """A run of somebody else's, who lets us read it."""
    directory = shutil.copytree(original, tmp_path / "theirs" / "run")
    for path in (*directory.rglob("*"), directory):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield directory
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755)


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}


def pages(run, out=None):
    config = FeaturesConfig(
        run=str(run), only=[1, 2], contexts=ContextsConfig(tokens=300), out=None if out is None else str(out), **FAST
    )
    return features.run(config, run, "a").document


def pruning(run, runs_dir):
    config = PruneConfig(run=str(run), top_n=5, runs_dir=str(runs_dir), **FAST)
    return document_of(prune.run(config, runs_dir / "pruned"))["eval"]


def comparison(run, other, runs_dir):
    config = CompareConfig(a=str(run), b=[str(other)], runs_dir=str(runs_dir), **FAST)
    return document_of(compare.run(config, runs_dir / "compared"))["compare"]["pairs"]


def test_pages_go_elsewhere_and_are_the_same(original, theirs, tmp_path, unprivileged, capsys):
    before, out = contents(theirs), tmp_path / "out"
    document = unprivileged(pages, theirs, out)
    assert contents(theirs) == before
    (place,) = out.iterdir()
    assert {path.relative_to(place).parts[0] for path in place.rglob("manifest.json")} == {"eval", "features"}
    mine = shutil.copytree(original, tmp_path / "mine")
    own = pages(mine)
    for name in ("contexts.safetensors", "sheets.safetensors"):
        assert (place / "features" / "a" / name).read_bytes() == (mine / "features" / "a" / name).read_bytes()
    assert document["sheets"] == str(place / "features" / "a") and own["figures"] == document["figures"]
    capsys.readouterr()
    assert unprivileged(pages, theirs, out) == document
    assert "already finished" in capsys.readouterr().err


def test_pages_without_a_place_are_refused_before_anything_is_measured(theirs, unprivileged, monkeypatch):
    monkeypatch.setattr(features, "make_subject", None)
    with pytest.raises(JobError) as caught:
        unprivileged(pages, theirs)
    assert str(caught.value) == (
        f"{theirs}: cannot be written; get write access to that folder, or measure it into another: "
        f"sae features {theirs} out=DIR"
    )


def test_a_pruned_dictionary_is_made_of_it_and_evaluated_again(original, theirs, tmp_path, unprivileged, capsys):
    before, runs = contents(theirs), tmp_path / "runs"
    found = unprivileged(pruning, theirs, runs)
    assert contents(theirs) == before
    assert f"{theirs}: cannot be written; its evaluation is kept in {runs / 'eval'}" in capsys.readouterr().err
    own = pruning(shutil.copytree(original, tmp_path / "mine"), tmp_path / "own")
    assert found["before"] == own["before"] and found["fvu"] == own["fvu"]
    (kept,) = (runs / "eval").iterdir()
    made = contents(kept)
    like = PruneConfig(run=str(theirs), top_n=5, runs_dir=str(runs), **FAST)
    config = evaluate.settings_for(runs / "pruned", like)
    again = evaluate.EvalConfig(**{**vars(config), "overwrite": True})
    unprivileged(evaluate.run, again, runs / "pruned", evaluate.default_name(config))
    assert contents(kept) == made  # what it was made of is not measured again


def test_an_evaluation_that_it_has_is_used(original, theirs, tmp_path, unprivileged):
    theirs.chmod(0o755)
    config = evaluate.settings_for(theirs, PruneConfig(run=str(theirs), top_n=5, **FAST))
    evaluate.run(config, theirs, evaluate.default_name(config))
    theirs.chmod(0o555)
    unprivileged(pruning, theirs, tmp_path / "runs")
    unprivileged(pages, theirs, tmp_path / "out")
    assert not (tmp_path / "runs" / "eval").exists()
    assert [path.parts[-3] for path in (tmp_path / "out").rglob("manifest.json")] == ["features"]


def test_it_is_compared(original, theirs, tmp_path, unprivileged):
    mine = shutil.copytree(original, tmp_path / "mine")
    before, runs = contents(theirs), tmp_path / "runs"
    found = unprivileged(comparison, theirs, mine, runs)
    assert contents(theirs) == before and found == comparison(
        mine, shutil.copytree(mine, tmp_path / "copy"), tmp_path / "own"
    )
    assert len(list((runs / "eval").iterdir())) == 1 and (mine / "eval").is_dir()
    listed = {each["run"]: each["status"] for each in document_of(list_runs.run([runs]))["runs"]}
    assert set(listed.values()) == {"complete"} and len(listed) == 2


def test_a_place_that_cannot_be_written_is_said_before_a_model_is_loaded(world, theirs, unprivileged, monkeypatch):
    monkeypatch.setattr("sae_cli.build.language_model", None)
    for stage, config in ((train, world.train(theirs)), (harvest, world.harvest(theirs))):
        with pytest.raises(JobError, match=r"run: cannot be written; .* or choose another \(runs_dir=\)$"):
            unprivileged(stage.run, config, theirs / "new")


@pytest.mark.parametrize("make", [pruning, lambda run, runs: comparison(run, run, runs)])
def test_runs_dir_that_cannot_be_written_is_said_before_anything_is_measured(theirs, unprivileged, make, monkeypatch):
    monkeypatch.setattr(evaluate, "make_subject", None)
    with pytest.raises(JobError) as caught:
        unprivileged(make, theirs, theirs)
    assert str(caught.value) == (
        f"{theirs}: cannot be written; get write access to that folder, or choose another (runs_dir=)"
    )


def test_a_report_of_it_goes_elsewhere(theirs, tmp_path, unprivileged):
    with pytest.raises(JobError) as caught:
        unprivileged(report.run, [theirs])
    assert str(caught.value) == (
        f"{theirs}: cannot be written; get write access to that folder, or write the report elsewhere: --out FILE"
    )
    assert unprivileged(report.run, [theirs], tmp_path / "page.html").path == tmp_path / "page.html"


def test_what_was_pruned_of_it_is_evaluated_elsewhere_too(theirs, tmp_path, unprivileged):
    unprivileged(pruning, theirs, tmp_path / "runs")
    config = evaluate.EvalConfig(run=str(tmp_path / "runs" / "pruned"), out=str(tmp_path / "out"), **FAST)
    found = document_of(unprivileged(evaluate.run, config, tmp_path / "runs" / "pruned", DEFAULT))["eval"]
    roots = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "out").iterdir())
    assert roots == ["pruned", "run"] and found["before"]["features"] == 48
    (there,) = (tmp_path / "out").glob("pruned-*")
    assert json.loads((there / "eval.json").read_text()) == found
    page = report.run([there / "eval" / DEFAULT], tmp_path / "page.html").path.read_text()
    assert f"{found['fvu']:.4f}" in page and "Before and after" in page
