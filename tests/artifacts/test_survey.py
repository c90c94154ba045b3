"""Finding runs: each with the status that it really has."""

import json
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
