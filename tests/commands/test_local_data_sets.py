"""A dictionary that was trained on a local data set is measured on the documents that were held out of its training."""

import json
import random
import shutil
from dataclasses import replace

import pytest

from sae_cli.artifacts.manifest import read_manifest, write_manifest
from sae_cli.artifacts.stored_run import read_run
from sae_cli.cli.main import run as command_line
from sae_cli.commands import train
from sae_cli.config.data import HfData

SMALL = ["device=cpu", "model_rows=4", "eval.tokens=150", "features.tokens=200"]


@pytest.fixture
def folder(world, tmp_path, monkeypatch):
    """A data set in the current folder."""
    rng, words = random.Random(1), (world.text / "0.txt").read_text().split()
    (tmp_path / "hf").mkdir()
    for name in ("a.jsonl", "b [1].jsonl"):
        documents = ({"text": " ".join(rng.choices(words, k=60))} for _ in range(30))
        (tmp_path / "hf" / name).write_text("".join(json.dumps(each) + "\n" for each in documents))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hf"


def data_of(path):
    return HfData(path=str(path), context=32, held_out_fraction=0.2)


def evaluate(capsys, *arguments, code=0):
    found = command_line(["eval", *map(str, arguments), *SMALL])
    said = capsys.readouterr()
    assert found == code, said.err
    return said


def measured(run):
    """The hashes of the tokens of its evaluations."""
    return {read_run(each).manifest.facts["tokens_sha256"] for each in (run / "eval").iterdir()}


def test_however_the_folder_is_spelt_the_same_tokens_are_measured(world, folder, tmp_path, capsys):
    train.run(world.train(tmp_path, data=data_of("hf"), tokens=512, dict_size=8), tmp_path / "run")
    evaluate(capsys, tmp_path / "run")
    (expected,) = measured(tmp_path / "run")
    (tmp_path / "link").symlink_to(folder)
    shutil.copytree(folder, tmp_path / "deep" / "copy")
    for spelling in ("./hf/", "link", "deep/copy"):
        evaluate(capsys, tmp_path / "run", "data=hf", f"data.path={spelling}", "overwrite=true")
        assert measured(tmp_path / "run") == {expected}, spelling


def test_a_run_whose_documents_were_split_otherwise_is_not_measured_on_them(world, folder, tmp_path, capsys):
    train.run(world.train(tmp_path, data=data_of("hf"), tokens=512, dict_size=8), tmp_path / "run")
    manifest = read_manifest(tmp_path / "run")
    before = manifest.facts["text"] | {"version": "", "keyed": False}  # as earlier versions left it
    write_manifest(tmp_path / "run", replace(manifest, facts={**manifest.facts, "text": before}))
    for data in ([], ["data=hf", "data.path=hf"]):
        said = evaluate(capsys, tmp_path / "run", *data, code=2).err
        assert "an earlier version trained it, which told the documents of a local data set apart by how" in said
