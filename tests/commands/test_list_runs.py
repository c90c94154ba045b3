"""What `sae list` says of runs: those that are whole, unfinished, worked on and damaged."""

import json
import os
from contextlib import suppress

import pytest

from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.run_directory import open_run
from sae_cli.commands import list_runs
from sae_cli.errors import JobError, RequestError
from sae_cli.metrics import VERSION
from sae_cli.runs import progress
from sae_cli.runs.inventory import readable_bytes
from tests.known import document_of

FIGURES = {"l0": 22.5, "fvu": 0.25, "loss_recovered": 0.9037, "dead": 0, "split": "x"}
BY = {"metrics_version": VERSION}
TRAINING = {"tokens": 1024, "train.batch_size": 256}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A harvest, a training from it with an evaluation, and a comparison."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "runs"
    with open_run(root / "harvest" / "h", "harvest", {}) as run:
        harvest = run.finish(tokens=20_145, width=64)
    with open_run(root / "train" / "t", "train", TRAINING, parents=[harvest]) as run:
        run.write_text("config.yaml", "a: 1\n")
        trained = run.finish(held_out_l0=23.7659, held_out_fvu=0.19761, dead=3, seconds=9.2)
    with open_run(root / "train" / "t" / "eval" / "default", "eval", {}, parents=[trained]) as run:
        run.write_json("eval.json", {**FIGURES, **BY})
        run.finish()
    with open_run(root / "compare" / "c", "compare", {}, parents=[trained]) as run:
        run.write_json("compare.json", {"pairs": [{"a_to_b": {"mmcs": 0.5, "floor_random": 0.25}}], **BY})
        run.finish()
    return root


def rows(listing):
    return {row[0]: row[1:] for row in listing.table}


def test_each_run_has_its_figures_its_parents_and_its_evaluations(runs):
    listing = list_runs.run([runs])
    assert listing.directories == [runs / "compare" / "c", runs / "harvest" / "h", runs / "train" / "t"]
    shown = rows(listing)
    assert shown["compare/c"][:3] == ("compare", "complete", "MMCS 0.5, random floor 0.25")
    assert shown["harvest/h"][:3] == ("harvest", "complete", "tokens 20,145, width 64")
    assert shown["train/t"][:3] == ("train", "complete", "L0 23.77, FVU 0.1976, dead 3")
    assert shown["  from harvest/h"] == ()
    assert shown["  eval/default"][2] == "L0 22.5, FVU 0.25, loss recovered 0.9037, dead 0"
    assert listing.title.startswith(f"3 runs in {runs}, ")


def measured(directory, command, name, report):
    with open_run(directory, command, {}) as run:
        run.write_json(name, report)
        run.finish()


def test_figures_by_other_definitions_are_marked(runs):
    evaluation, comparison = runs / "train" / "t" / "eval", runs / "compare"
    measured(evaluation / "old", "eval", "eval.json", FIGURES | {"metrics_version": 1})
    measured(
        comparison / "old", "compare", "compare.json", {"pairs": [{"a_to_b": {"mmcs": 0.5}}], "metrics_version": 1}
    )
    measured(comparison / "none", "compare", "compare.json", {"pairs": [{"a_to_b": {"mmcs": 0.5}}]})
    shown = {name: each[2] for name, each in rows(list_runs.run([runs])).items() if each}
    old = f"(by version 1 of the definitions, not {VERSION})"
    assert shown["  eval/old"] == f"L0 22.5, FVU 0.25, loss recovered 0.9037, dead 0 {old}"
    assert shown["compare/old"] == f"MMCS 0.5 {old}"
    assert shown["compare/none"] == f"MMCS 0.5 (by a version of the definitions before {VERSION})"
    assert all("definitions" not in shown[name] for name in ("compare/c", "  eval/default", "train/t", "harvest/h"))
    by = {each["run"]: each["figures_by"] for each in document_of(list_runs.run([comparison]))["runs"]}
    assert by[str(comparison / "c")] is None and "version 1" in by[str(comparison / "old")]


def test_a_figure_that_does_not_exist_is_said(runs):
    report = FIGURES | BY | {"loss_recovered": None, "ce_increase": 0.125}
    measured(runs / "train" / "t" / "eval" / "null", "eval", "eval.json", report)
    listing = list_runs.run([runs / "train" / "t"])
    said = "L0 22.5, FVU 0.25, loss recovered does not exist, CE increase 0.125, dead 0"
    assert rows(listing)["  eval/null"][2] == said
    (document,) = document_of(listing)["runs"]
    assert [each["figures"]["loss_recovered"] for each in document["measurements"]] == [0.9037, None]


def test_the_document_says_the_same(runs):
    (document,) = document_of(list_runs.run([runs / "train" / "t"]))["runs"]
    assert document["run"] == str(runs / "train" / "t")
    assert (document["command"], document["status"], document["owner"]) == ("train", "complete", None)
    assert document["parents"] == [str(runs / "harvest" / "h")]
    assert document["figures"] == {"l0": 23.7659, "fvu": 0.19761, "dead": 3}
    assert document["bytes"] == sum(path.stat().st_size for path in (runs / "train").rglob("*") if path.is_file())
    (evaluation,) = document["measurements"]
    assert evaluation["figures"]["loss_recovered"] == 0.9037
    json.dumps(document, allow_nan=False)


def test_a_run_is_listed_once(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(runs)
    (tmp_path / "link").symlink_to(runs)
    paths = [runs / "train" / "t", runs / "train", tmp_path / "link" / "train"]
    assert list_runs.run(paths).directories == [runs / "train" / "t"]


def test_a_damaged_manifest_is_one_row_that_says_so(runs):
    (runs / "harvest" / "h" / MANIFEST).write_text("{")
    listing = list_runs.run([runs])
    assert len(listing.directories) == 3
    command, status, said, _ = rows(listing)["harvest/h"]
    assert (command, status) == ("", "damaged") and "damaged file: expected a manifest that ends" in said


def test_figures_that_are_none_are_left_out(runs, capsys):
    (runs / "train" / "t" / "eval" / "default" / "eval.json").write_text('{"l0": "many", "fvu": ')
    with open_run(runs / "compare" / "c", "compare", {}, overwrite=True) as run:
        run.write_json("compare.json", {"pairs": [3]})
        run.finish()
    shown = rows(list_runs.run([runs]))
    assert shown["  eval/default"][2] == shown["compare/c"][2] == ""
    assert "warning: no figures: " in capsys.readouterr().err


def test_who_works_on_a_run(tmp_path):
    with open_run(tmp_path / "r", "train", TRAINING):
        (document,) = document_of(list_runs.run([tmp_path]))["runs"]
        assert document["owner"]["pid"] == os.getpid()
        assert rows(list_runs.run([tmp_path]))["r"][1] == f"running {os.getpid()}@{document['owner']['host']}"
    with suppress(JobError), open_run(tmp_path / "r", "train", TRAINING):
        raise JobError("the disk is full")
    assert rows(list_runs.run([tmp_path]))["r"][1:3] == ("failed", "no checkpoint yet; the disk is full")


def test_how_far_an_unfinished_training_is(tmp_path):
    with open_run(tmp_path / "r", "train", TRAINING) as run:
        run.write_text("checkpoint/00000003/training.safetensors", "x")
        run.write_text("checkpoint/00000003/shuffle.safetensors", "x")
        run.save_progress()
    os.utime(tmp_path / "r" / "checkpoint" / "00000003" / "training.safetensors", (0, 0))
    (document,) = document_of(list_runs.run([tmp_path]))["runs"]
    assert document["progress"] == {"done": 3, "total": 4, "unit": "steps", "saved": "1970-01-01T00:00:00+00:00"}
    said = "3 of 4 steps (75.0%); its process was killed, or the machine went down"
    assert rows(list_runs.run([tmp_path]))["r"][1:3] == ("stopped", said)


def test_how_far_an_unfinished_harvest_is(tmp_path):
    with open_run(tmp_path / "r", "harvest", {}) as run:
        for shard in (0, 1, 3):  # two can be resumed from
            run.write_text(f"activations-{shard:05d}-of-00008.safetensors", "x")
        run.save_progress()
    assert rows(list_runs.run([tmp_path]))["r"][2].startswith("2 of 8 shards (25.0%); its process was killed")


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0 s ago"), (59, "59 s ago"), (600, "10 min ago"), (9e5, "10 d ago")]
)
def test_ages(seconds, said, monkeypatch):
    monkeypatch.setattr(progress.time, "time", lambda: 1e6 + seconds)
    assert progress.Progress(1, 2, "steps", 1e6).saved_text() == said


def test_where_nothing_is(tmp_path):
    assert list_runs.run([tmp_path / "runs"], named=False).title == f"no runs in {tmp_path / 'runs'}"
    with pytest.raises(RequestError, match=r"runs: no such folder; give a run directory, or a folder of runs"):
        list_runs.run([tmp_path / "runs"])
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"file: expected a folder, found a file; give"):
        list_runs.run([tmp_path / "file"])


@pytest.mark.parametrize(
    ("n_bytes", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (999_600, "1 MB"), (12_345_678, "12.3 MB")]
)
def test_sizes(n_bytes, said):
    assert readable_bytes(n_bytes) == said
