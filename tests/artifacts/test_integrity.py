"""What is wrong with a file is found and said; what is right passes."""

import os

import pytest
import torch

from sae_cli.artifacts.files import FileRecord
from sae_cli.artifacts.integrity import file_damage, unlisted_files
from sae_cli.artifacts.manifest import write_manifest
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.survey import look_at
from tests.known import present


@pytest.fixture
def found(tmp_path):
    with open_run(tmp_path / "r", "train", {"seed": 0}) as run:
        run.write_tensors("a.safetensors", {"x": torch.arange(6.0)})
        run.append_line("curve.jsonl", {"step": 1})
        run.write_tensors("checkpoint/00000001/training.safetensors", {"x": torch.zeros(2)})
        run.finish()
    return look_at(tmp_path / "r")


def damage_of(found, name):
    return present(damage_or_none(found, name))


def damage_or_none(found, name):
    return file_damage(found, name, found.manifest.files[name], lambda n_bytes: None)


def test_whole_files_pass_and_all_of_their_bytes_are_read(found):
    read = []
    for name, record in found.manifest.files.items():
        assert file_damage(found, name, record, read.append) is None
    assert sum(read) == sum(record.bytes for record in found.manifest.files.values())
    assert list(unlisted_files(found)) == []


def change(path, position=-1):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "kind", "says"),
    [
        (lambda path: path.unlink(), "missing", "expected 120 bytes, found no file"),
        (lambda path: os.truncate(path, 7), "truncated", "expected 120 bytes, found 7"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "longer", "expected 120 bytes, found 121"),
        (change, "changed", "expected sha256 "),
        (lambda path: (path.unlink(), path.mkdir()), "missing", "found no file"),
    ],
    ids=["gone", "cut", "longer", "flipped", "a folder"],
)
def test_harm_is_found(found, harm, kind, says):
    harm(found.directory / "a.safetensors")
    damage = damage_of(found, "a.safetensors")
    assert damage.kind == kind and says in damage.message


def test_a_header_that_cannot_be_read_is_found_though_the_hash_is_right(tmp_path):
    with open_run(tmp_path, "train", {}) as run:
        run.write_text("a.safetensors", "no header")
        run.finish()
    damage = damage_of(look_at(tmp_path), "a.safetensors")
    assert damage.kind == "header" and damage.message.startswith("expected a safetensors file, found: ")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../b"])
def test_names_that_lead_out_of_the_run_are_not_followed(found, name):
    damage = file_damage(found, name, FileRecord(1, "0"), lambda n_bytes: pytest.fail("read"))
    assert damage is not None and damage.kind == "outside"


def test_of_a_log_that_goes_on_the_recorded_beginning_counts(tmp_path):
    with open_run(tmp_path, "train", {}) as run:
        run.append_line("curve.jsonl", {"step": 1})
        run.save_progress()
        run.append_line("curve.jsonl", {"step": 2})
        assert damage_or_none(look_at(tmp_path), "curve.jsonl") is None
        change(tmp_path / "curve.jsonl", 3)
        assert damage_of(look_at(tmp_path), "curve.jsonl").kind == "changed"
        change(tmp_path / "curve.jsonl", 3)
        run.manifest.status = "complete"
        write_manifest(tmp_path, run.manifest)
    assert damage_of(look_at(tmp_path), "curve.jsonl").kind == "longer"


def test_links_out_of_the_run_are_not_followed(found, tmp_path):
    (found.directory / "a.safetensors").replace(tmp_path / "elsewhere")
    (found.directory / "a.safetensors").symlink_to(tmp_path / "elsewhere")
    assert damage_of(found, "a.safetensors").kind == "outside"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (".lock", "the lock of a process that has ended: can be deleted"),
        (".a.safetensors.12.tmp", "stopped while it wrote: can be deleted"),
        (".model-abc/model.safetensors", "stopped while it wrote: can be deleted"),
        ("checkpoint/00000002/training.safetensors", "of a checkpoint that was not completed"),
        ("notes.txt", "can be deleted if it is not yours"),
    ],
)
def test_files_that_no_manifest_lists_are_named(found, name, says):
    path = found.directory / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("x")
    ((unlisted, what),) = unlisted_files(found)
    assert unlisted == name and says in what
    assert path.exists()


def test_what_an_unfinished_run_wrote_after_its_last_save_is_named_so(tmp_path):
    with open_run(tmp_path, "train", {}) as run:
        run.write_text("config.yaml", "a: 1\n")
    assert dict(unlisted_files(look_at(tmp_path)))["config.yaml"].startswith("written after the last save: goes when")


def test_the_files_of_runs_inside_are_their_own(found):
    with open_run(found.directory / "eval" / "default", "eval", {}) as run:
        run.write_json("eval.json", {})
        run.finish()
    assert list(unlisted_files(found)) == []
