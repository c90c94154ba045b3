"""Run directories: what is written is what is read, or one line says why not."""

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from sae_cli.artifacts import run_directory
from sae_cli.artifacts.files import read_bytes, write_bytes
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.run_directory import finished_run, open_run, unfinished_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.artifacts.tensors import read_metadata, read_tensors, write_tensors
from sae_cli.errors import JobError, RequestError
from tests.known import present

SETTINGS = {"l1": 1.0, "seed": 0}


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def run(tmp_path):
    with open_run(tmp_path / "run", "train", SETTINGS) as claimed:
        claimed.write_tensors("a.safetensors", {"x": torch.arange(6.0).reshape(2, 3)}, {"hook": "resid", "layer": 3})
        claimed.append_line("curve.jsonl", {"step": 1})
        claimed.append_line("curve.jsonl", {"step": 2})
        return claimed.finish(tokens=7)


def test_round_trip(run):
    again = read_run(run.directory, "train")
    assert torch.equal(again.read_tensors("a.safetensors")["x"], torch.arange(6.0).reshape(2, 3))
    assert again.read_metadata("a.safetensors") == {"hook": "resid", "layer": 3}
    assert (run.directory / "curve.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    assert again.manifest.facts == {"tokens": 7} and again.manifest.settings == SETTINGS
    assert set(again.manifest.files) == {"a.safetensors", "curve.jsonl"}
    assert not list(run.directory.glob(".*"))


def test_equal_tensors_are_equal_bytes(tmp_path):
    metadata = {letter: letter for letter in "abcdefgh"}
    records = [write_tensors(tmp_path / "t", {"b": torch.ones(3), "a": torch.zeros(2)}, metadata) for _ in range(8)]
    assert len({record.sha256 for record in records}) == 1
    assert read_metadata(tmp_path / "t") == metadata


@pytest.mark.parametrize("position", [0, 20, -1])
def test_a_flipped_byte_is_found(run, position):
    path = run.directory / "a.safetensors"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(JobError, match=r"a\.safetensors: damaged file: expected (sha256|a safetensors file).*, found"):
        run.read_tensors("a.safetensors")


def test_a_truncated_file_is_found_even_unverified(run):
    path = run.directory / "a.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(JobError, match=r"damaged file: expected \d+ bytes, found \d+ bytes"):
        run.read_tensors("a.safetensors", verify=False)


def test_garbage_is_no_safetensors_file(tmp_path):
    write_bytes(tmp_path / "x.safetensors", b"\xff" * 100)
    with pytest.raises(JobError, match="expected a safetensors file"):
        read_tensors(tmp_path / "x.safetensors")


def test_missing_pieces_are_named(run, tmp_path):
    with pytest.raises(RequestError, match="no run here"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="expected a harvest run, found a train run"):
        read_run(run.directory, "harvest")
    with pytest.raises(JobError, match=r"has no b\.safetensors; it has a\.safetensors"):
        run.read_tensors("b.safetensors")
    (run.directory / "a.safetensors").unlink()
    with pytest.raises(JobError, match="missing"):
        run.read_tensors("a.safetensors")


def test_a_damaged_run_is_replaced_when_asked(run):
    (run.directory / "manifest.json").write_text("{}")
    with pytest.raises(JobError, match="overwrite=true"):
        finished_run(run.directory, SETTINGS, overwrite=False)
    assert finished_run(run.directory, SETTINGS, overwrite=True) is None
    assert open_run(run.directory, "train", SETTINGS, overwrite=True).finish().manifest.status == "complete"


def test_links_do_not_lead_out_of_a_run(run, tmp_path):
    (tmp_path / "elsewhere").write_bytes((run.directory / "a.safetensors").read_bytes())
    (run.directory / "a.safetensors").unlink()
    (run.directory / "a.safetensors").symlink_to(tmp_path / "elsewhere")
    for read in (run.read_tensors, run.read_metadata, run.read_json, lambda name: run.map_tensor(name, "x")):
        with pytest.raises(JobError, match=r"a\.safetensors: expected a place within the run directory, found a link"):
            read("a.safetensors")
    with pytest.raises(JobError, match="a link that leaves it"):
        run.check_files(verify=True)


def test_facts_are_asked_for_by_type(run):
    assert run.fact("tokens", int) == 7
    with pytest.raises(JobError, match=r"manifest\.json: damaged file: expected the fact width \(int\), found None"):
        run.fact("width", int)
    with pytest.raises(JobError, match=r"expected the fact tokens \(str\), found 7"):
        run.fact("tokens", str)


def test_the_same_run_is_found_and_another_refused_with_a_diff(run):
    assert finished_run(run.directory, SETTINGS, overwrite=False) is not None
    assert finished_run(run.directory, SETTINGS, overwrite=True) is None
    with pytest.raises(RequestError, match=r"other settings: l1: 1\.0 -> 3\.0; .*overwrite=true"):
        finished_run(run.directory, SETTINGS | {"l1": 3.0}, overwrite=False)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RequestError, match="not empty and not a run"):
            finished_run(tmp_path, SETTINGS, overwrite)
    assert (tmp_path / "thesis.tex").exists()


def test_a_failure_is_recorded_and_the_run_starts_again(tmp_path):
    with pytest.raises(JobError), open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.write_tensors("shard-0", {"x": torch.ones(1)})
        claimed.write_tensors("other", {"x": torch.ones(1)})
        claimed.save_progress()
        raise JobError("disk on fire")
    manifest = read_manifest(tmp_path / "r")
    assert (manifest.status, manifest.reason) == ("failed", "disk on fire")
    with pytest.raises(JobError, match=r"not complete: failed \(disk on fire\)"):
        read_run(tmp_path / "r")
    assert finished_run(tmp_path / "r", SETTINGS, overwrite=False) is None
    attempt = unfinished_run(tmp_path / "r", overwrite=False)
    with open_run(tmp_path / "r", "train", SETTINGS, attempt=attempt, keep=["shard-0"]) as again:
        assert set(again.manifest.files) == {"shard-0"}
        assert {path.name for path in again.directory.iterdir()} == {".lock", "manifest.json", "shard-0"}
    with open_run(tmp_path / "r", "train", SETTINGS) as from_nothing:
        assert from_nothing.manifest.files == {}
        assert not (tmp_path / "r" / "shard-0").exists()


def test_a_log_goes_on_where_progress_was_last_saved(tmp_path):
    with suppress(KeyboardInterrupt), open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.append_line("curve", {"step": 1})
        claimed.save_progress()
        claimed.append_line("curve", {"step": 2})
        raise KeyboardInterrupt
    attempt = present(unfinished_run(tmp_path / "r", overwrite=False))
    with open_run(tmp_path / "r", "train", SETTINGS, attempt=attempt, keep=attempt.manifest.files) as again:
        again.resume_log("curve")
        again.append_line("curve", {"step": 2, "again": True})
        again.finish()
    assert (tmp_path / "r" / "curve").read_text() == '{"step": 1}\n{"step": 2, "again": true}\n'
    assert read_run(tmp_path / "r").read_bytes("curve").count(b"\n") == 2


def test_progress_that_cannot_be_saved_is_not_known(tmp_path, monkeypatch):
    """A checkpoint without the log that belongs to it would leave a gap in the log."""
    with pytest.raises(JobError), open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.append_line("curve", {"step": 1})
        claimed.write_tensors("checkpoint/1", {"x": torch.ones(1)})
        claimed.save_progress()
        claimed.append_line("curve", {"step": 2})
        claimed.write_tensors("checkpoint/2", {"x": torch.ones(1)})
        with monkeypatch.context() as patched:
            patched.setattr(claimed, "write_text", fail_with(JobError("disk on fire")))
            claimed.save_progress(without=["checkpoint/1"])
    left = read_manifest(tmp_path / "r")
    assert (left.status, list(left.files)) == ("failed", ["checkpoint/1", "curve"])
    assert left.files["curve"].bytes == len('{"step": 1}\n') and (tmp_path / "r" / "checkpoint" / "1").exists()


def test_a_damaged_log_is_not_gone_on_with(tmp_path):
    with open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.append_line("curve", {"step": 1})
        claimed.save_progress()
    (tmp_path / "r" / "curve").write_text('{"step": 7}\n')
    attempt = present(unfinished_run(tmp_path / "r", overwrite=False))
    with (
        pytest.raises(JobError, match="curve: damaged file"),
        open_run(tmp_path / "r", "train", SETTINGS, attempt=attempt, keep=attempt.manifest.files) as again,
    ):
        again.resume_log("curve")


def test_what_is_needed_until_the_end_only_is_gone_then(tmp_path):
    with open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.write_text("checkpoint/1/state", "one")
        claimed.save_progress()
        claimed.write_text("checkpoint/2/state", "two")
        claimed.save_progress(without=["checkpoint/1/state"])
        assert [path.name for path in (tmp_path / "r" / "checkpoint").iterdir()] == ["2"]
        claimed.write_text("result", "three")
        claimed.finish(["checkpoint/2/state"])
    assert {path.name for path in (tmp_path / "r").iterdir()} == {"manifest.json", "result"}


def test_what_a_process_left_that_died_after_its_last_write_is_removed(run):
    left = run.directory / "checkpoint" / "00000007" / "training.safetensors"
    left.parent.mkdir(parents=True)
    left.write_text("")
    assert finished_run(run.directory, SETTINGS, overwrite=False)
    assert not (run.directory / "checkpoint").exists()


def test_a_process_that_died_before_its_manifest_leaves_room_for_the_next(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".lock").write_text("")
    (tmp_path / "r" / ".manifest.json.17.tmp").write_text("{")
    assert finished_run(tmp_path / "r", SETTINGS, overwrite=False) is None
    with open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        assert {path.name for path in claimed.directory.iterdir()} == {".lock", "manifest.json"}


def test_a_run_that_was_finished_meanwhile_is_not_begun_again(run):
    with pytest.raises(JobError, match="another process has just worked on this run; run the command again"):
        open_run(run.directory, "train", SETTINGS)
    assert read_run(run.directory).manifest.facts == {"tokens": 7}
    open_run(run.directory, "train", SETTINGS, overwrite=True)


def test_an_attempt_that_has_changed_meanwhile_is_not_gone_on_with(tmp_path):
    with open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        attempt = unfinished_run(tmp_path / "r", overwrite=False)
        claimed.write_text("more", "")
        claimed.save_progress()
    with pytest.raises(JobError, match="another process has just worked on this run"):
        open_run(tmp_path / "r", "train", SETTINGS, attempt=attempt)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    record = write_bytes(tmp_path / "f", b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(JobError, match="f: cannot be written: No space left on device; free some space there and run"):
        write_bytes(tmp_path / "f", b"new")
    assert read_bytes(tmp_path / "f", record, verify=True) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_run_that_cannot_be_finished_keeps_its_checkpoint(tmp_path, monkeypatch):
    write = run_directory.write_manifest

    def broken_when_complete(directory, manifest):
        if manifest.status == "complete":
            raise JobError("disk on fire")
        return write(directory, manifest)

    monkeypatch.setattr(run_directory, "write_manifest", broken_when_complete)
    with pytest.raises(JobError), open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.write_tensors("checkpoint/1/x", {"x": torch.ones(1)})
        claimed.save_progress()
        claimed.finish(["checkpoint/1/x"])
    left = present(unfinished_run(tmp_path / "r", overwrite=False))
    assert (left.manifest.status, list(left.manifest.files)) == ("failed", ["checkpoint/1/x"])
    left.check_files(verify=True)


def test_a_run_whose_checkpoint_cannot_be_removed_is_finished(tmp_path, monkeypatch):
    with open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.write_tensors("checkpoint/1/x", {"x": torch.ones(1)})
        with monkeypatch.context() as patched:
            patched.setattr("pathlib.Path.unlink", fail_with(OSError(errno.EIO, os.strerror(errno.EIO))))
            claimed.finish(["checkpoint/1/x"])
    assert (tmp_path / "r" / "checkpoint" / "1" / "x").exists()
    assert finished_run(tmp_path / "r", SETTINGS, overwrite=False) is not None  # and tidied up
    assert not (tmp_path / "r" / "checkpoint").exists()


def test_a_finished_run_keeps_no_lock_of_a_dead_process(run):
    (run.directory / ".lock").write_text("")
    assert finished_run(run.directory, SETTINGS, overwrite=False) is not None
    assert not (run.directory / ".lock").exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_another_process_begins_while_one_looks_is_no_strange_folder(tmp_path, monkeypatch, moment):
    (directory := tmp_path / "r").mkdir()
    runs, look = [], Path.iterdir

    def interrupted(path):
        monkeypatch.setattr(Path, "iterdir", look)
        names = list(path.iterdir()) if moment == "after" else None
        runs.append(open_run(directory, "train", SETTINGS))
        runs[0].write_text("config.yaml", "")
        return iter(path.iterdir() if names is None else names)

    monkeypatch.setattr(Path, "iterdir", interrupted)
    assert finished_run(directory, SETTINGS, overwrite=False) is None
    runs[0].finish()


def test_a_file_where_a_run_should_be_is_one_line(tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(RequestError, match="r: expected a run directory, found a file; choose another name="):
        finished_run(tmp_path / "r", SETTINGS, overwrite=True)


def test_what_belongs_to_another_process_that_replaces_the_run_is_not_tidied_away(run, monkeypatch):
    begun, lock = [], run_directory.RunLock

    def late(directory):
        if not begun:
            begun.append(None)
            begun.append(open_run(directory, "train", SETTINGS, overwrite=True))
            begun[1].write_tensors("checkpoint/1/x", {"x": torch.ones(1)})
        return lock(directory)

    (run.directory / "checkpoint").mkdir()
    monkeypatch.setattr(run_directory, "RunLock", late)
    finished_run(run.directory, SETTINGS, overwrite=False)
    assert (run.directory / "checkpoint" / "1" / "x").exists()
    begun[1].finish()


def test_checkpoints_that_are_kept_are_nothing_to_tidy(tmp_path, monkeypatch):
    with open_run(tmp_path / "r", "train", SETTINGS) as claimed:
        claimed.write_tensors("checkpoint/1/x", {"x": torch.ones(1)})
        claimed.finish()
    monkeypatch.setattr(run_directory, "RunLock", None)
    assert finished_run(tmp_path / "r", SETTINGS, overwrite=False)
