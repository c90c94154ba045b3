"""Finding runs: each with the status that it really has."""

import json
import os
from contextlib import suppress

import pytest

from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.survey import look_at, measurements_in, run_directories, size_of

SETTINGS = {"seed": 0}


def finished(directory, command="train"):
    with open_run(directory, command, SETTINGS) as run:
        run.write_text("config.yaml", "a: 1\n")
        return run.finish()


def test_runs_are_found_in_order_and_not_inside_runs(tmp_path):
    for name in ("b/2", "a", "b/1", "b/1/eval/default"):
        finished(tmp_path / name)
    (tmp_path / "empty").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in run_directories(tmp_path)]
    assert found == ["a", "b/1", "b/2"]
    assert [each.directory.name for each in measurements_in(tmp_path / "b" / "1")] == ["default"]
    assert list(run_directories(tmp_path / "nowhere")) == []


def test_the_status_is_that_of_the_process_too(tmp_path):
    assert look_at(finished(tmp_path / "done").directory).status == "complete"
    with open_run(tmp_path / "r", "train", SETTINGS):
        held = look_at(tmp_path / "r")
        assert held.status == "running" and held.owner is not None
    left = look_at(tmp_path / "r")
    assert (left.status, left.owner) == ("stopped", None)
    with suppress(ValueError), open_run(tmp_path / "r", "train", SETTINGS):
        raise ValueError("no luck")
    failed = look_at(tmp_path / "r")
    assert failed.manifest is not None
    assert (failed.status, failed.manifest.reason) == ("failed", "no luck")


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"schema_version": 99}), '{"schema_version": 1}'])
def test_a_damaged_manifest_is_a_status_with_its_reason(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    found = look_at(tmp_path)
    assert (found.status, found.manifest) == ("damaged", None)
    assert MANIFEST in found.problem


def test_the_size_is_that_of_all_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"123")
    (tmp_path / "y").write_bytes(b"4567")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert size_of(tmp_path) == 7 + len(str(tmp_path / "nowhere"))


def make_run(directory):
    directory.mkdir(parents=True)
    (directory / MANIFEST).write_text("{}")
    return directory


def found_below(folder):
    said = []
    found = [path.relative_to(folder).as_posix() for path in run_directories(folder, said.append)]
    return found, [line.removeprefix(f"{folder}/") for line in said]


def test_runs_behind_links_are_found_once_and_loops_end(tmp_path):
    elsewhere, runs = tmp_path / "elsewhere", tmp_path / "runs"
    make_run(elsewhere / "harvest" / "x")
    run = make_run(elsewhere / "single")
    make_run(runs / "train" / "y")
    (runs / "harvest").symlink_to(elsewhere / "harvest")
    (runs / "one").symlink_to(run)
    (runs / "again").symlink_to(runs / "train")
    (runs / "train" / "loop").symlink_to(runs)
    (runs / "train" / "itself").symlink_to("itself")
    assert found_below(runs) == (
        ["train/y", "harvest/x", "one"],
        ["train/itself: not searched for runs: a link to nothing"],
    )
    (tmp_path / "linked").symlink_to(runs)
    assert found_below(tmp_path / "linked")[0] == ["train/y", "harvest/x", "one"]


def test_what_begins_with_a_dot_is_passed_over_and_said(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / ".Trash" / "b")
    make_run(tmp_path / ".sweeps" / "c")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert found_below(tmp_path) == (
        ["a"],
        [
            ".Trash: not searched for runs: its name begins with a dot",
            "gone: not searched for runs: a link to nothing",
        ],
    )
    assert found_below(tmp_path / ".Trash") == (["b"], [])


def test_a_folder_that_cannot_be_searched_is_said(tmp_path, monkeypatch):
    make_run(tmp_path / "a")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def denied(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", denied)
    assert found_below(tmp_path) == (["a"], ["closed: not searched for runs: Permission denied"])
