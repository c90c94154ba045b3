"""Run directories: what is written is what is read, or one line says why not."""

import pytest
import torch

from sae_cli.artifacts.files import read_bytes, write_bytes
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.run_directory import finished_run, open_run, read_run
from sae_cli.artifacts.tensors import read_metadata, read_tensors, write_tensors
from sae_cli.errors import JobError, RequestError

SETTINGS = {"l1": 1.0, "seed": 0}


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
    assert open_run(run.directory, "train", SETTINGS).finish().manifest.status == "complete"


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
    again = open_run(tmp_path / "r", "train", SETTINGS, keep=lambda name: name.startswith("shard"))
    assert set(again.manifest.files) == {"shard-0"}
    assert set(open_run(tmp_path / "r", "train", SETTINGS).manifest.files) == set()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    record = write_bytes(tmp_path / "f", b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_bytes(tmp_path / "f", b"new")
    assert read_bytes(tmp_path / "f", record, verify=True) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
