"""Model folders of strangers: nothing in them is run, and nothing outside them is read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import LlamaConfig

from sae_cli.errors import JobError, RequestError
from sae_cli.models import load_language_model

CONFIG = LlamaConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=100,
    max_position_embeddings=24,
)
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path, build) -> Path:
    build(CONFIG).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def refusal(folder: Path) -> str:
    with pytest.raises(JobError) as caught:
        load_language_model(str(folder))
    message = str(caught.value)
    assert message.startswith(f"model.path={folder}: expected weights that fit the config in {folder}, found ")
    assert message.isprintable()
    return message


def as_pickle(folder: Path) -> dict[str, torch.Tensor]:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return weights


def test_a_pickle_of_tensors_is_read(folder, build, rows):
    torch.save(as_pickle(folder), folder / "pytorch_model.bin")
    assert_close(load_language_model(str(folder)).logits(rows), build(CONFIG)(rows).logits)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
def test_a_pickle_runs_no_code(folder, tmp_path, write):
    done = tmp_path / "done"
    pickle.loads(pickle.dumps(Malicious(done)))
    assert done.exists()
    done.unlink()
    write(as_pickle(folder) | {"model.norm.weight": Malicious(done)}, folder / "pytorch_model.bin")
    assert "found" in refusal(folder)
    assert not done.exists()


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    (folder / "own.py").write_text(f"open({str(tmp_path / 'done')!r}, 'w')")
    config = json.loads((folder / "config.json").read_text())
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    (folder / "config.json").write_text(json.dumps(config | own))
    with pytest.raises(RequestError, match="which brings Python code to be run"):
        load_language_model(str(folder))
    assert not (tmp_path / "done").exists()


def index(folder: Path, place: object) -> None:
    names = load_file(folder / "model.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(names, place)}))
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/passwd", "a/b", "..", "", 7, "..\\x", "a\nb"])
def test_an_index_does_not_lead_out_of_the_folder(folder, place):
    index(folder, place)
    assert f"found {INDEX} that takes weights from {place!r}, outside the folder" in refusal(folder)


def test_an_index_within_the_folder(folder, build, rows):
    index(folder, "part.safetensors")
    (folder.parent / "outside.safetensors").rename(folder / "part.safetensors")
    assert_close(load_language_model(str(folder)).logits(rows), build(CONFIG)(rows).logits)


@pytest.mark.parametrize("text", ["[1]", "{}", '{"weight_map": []}'])
def test_an_index_that_is_none(folder, text):
    (folder / INDEX).write_text(text)
    assert f"found {INDEX} without a weight_map" in refusal(folder)


def test_an_index_nested_without_end(folder):
    (folder / INDEX).write_text("[" * 100_000)
    assert "more than 32 levels of nesting" in refusal(folder)


@pytest.mark.parametrize("setting", [{"hidden_size": 2**20}, {"num_hidden_layers": 10**9}, {"vocab_size": 10**12}])
def test_a_config_that_asks_for_more_than_there_is(folder, setting):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | setting | {"layer_types": None, "head_dim": 8}))
    assert "bytes of weights for" in refusal(folder)


def test_a_header_that_claims_too_much(folder):
    (folder / "model.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    assert "found in model.safetensors header too large" in refusal(folder)
