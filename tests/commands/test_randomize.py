"""A randomized model as a run: a model folder that later commands read, and notice damage to."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import randomize_weights as randomize
from sae_cli.commands import train
from sae_cli.config.commands.randomize_weights import RandomizeConfig
from sae_cli.config.edits import ModelPart, RandomScheme
from sae_cli.config.model import ModelConfig
from sae_cli.errors import JobError
from sae_cli.models import load_language_model
from tests.known import document_of


def randomized(world, directory, **changes):
    return randomize.run(RandomizeConfig(model=ModelConfig(path=str(world.model)), **changes), directory)


def test_transformers_reads_the_run(world, tmp_path):
    result = randomized(world, tmp_path / "run", scheme=RandomScheme.permute, keep=[ModelPart.embed])
    before, after = (
        AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (world.model, tmp_path / "run")
    )
    assert before.keys() == after.keys()
    embedding = "gpt_neox.embed_in.weight"
    assert torch.equal(before[embedding], after[embedding])
    assert not torch.equal(before["lm_head.weight"], after["lm_head.weight"])
    text = "bata kere"
    tokenizers = (AutoTokenizer.from_pretrained(path) for path in (world.model, tmp_path / "run"))
    first, second = (each(text)["input_ids"] for each in tokenizers)
    assert first == second
    lines = {each["name"]: each for each in document_of(result)["weights"]}
    assert lines[embedding]["kept"] and not lines["lm_head.weight"]["kept"]


def test_same_seed_same_bytes(world, tmp_path):
    for name in ("one", "two"):
        randomized(world, tmp_path / name, scheme=RandomScheme.gaussian, seed=3)
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text())["files"] for name in ("one", "two"))
    assert one == two
    assert "model.safetensors" in one and "config.json" in one and "tokenizer.json" in one


def test_a_dictionary_names_it_as_its_parent(world, tmp_path):
    randomized(world, tmp_path / "model")
    config = world.train(tmp_path, model=ModelConfig(path=str(tmp_path / "model")))
    train.run(config, tmp_path / "run")
    parents = [parent.path for parent in read_run(tmp_path / "run").manifest.parents]
    assert parents == [str((tmp_path / "model").resolve())]


def test_damage_is_noticed(world, tmp_path):
    randomized(world, tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(JobError, match=r"model\.safetensors: damaged file"):
        load_language_model(str(tmp_path / "run"))
