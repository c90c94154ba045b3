"""Loading from folders, and the one line that each thing that is wrong with them gets."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.testing import assert_close
from transformers import LlamaConfig, PreTrainedTokenizerFast, dynamic_module_utils
from transformers.utils import logging as transformers_logging

from sae_cli.config.hook import HookPoint
from sae_cli.errors import JobError, RequestError
from sae_cli.models import Site, load_language_model, load_tokenizer, model_identity, sources

CONFIG = LlamaConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=100,
    max_position_embeddings=24,
)


@pytest.fixture
def folder(tmp_path, build) -> Path:
    """A saved tiny Llama, without a tokenizer."""
    build(CONFIG).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.fixture
def folder_with_tokenizer(folder) -> Path:
    words = Tokenizer(WordLevel({"[UNK]": 0, "the": 1, "cat": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]").save_pretrained(folder)
    return folder


def edit_config(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def refusal(error: type[Exception], path: Path | str, **options) -> str:
    with pytest.raises(error) as caught:
        load_language_model(str(path), **options)
    message = str(caught.value)
    assert message.startswith(("model.path=", "model "))
    assert "\n" not in message
    return message


def test_loads_a_folder_as_it_was_saved(folder_with_tokenizer, build, rows):
    model = load_language_model(str(folder_with_tokenizer))
    assert (model.n_layers, model.d_model, model.d_mlp, model.dtype) == (2, 32, 48, torch.float32)
    assert_close(model.logits(rows), build(CONFIG)(rows).logits)
    assert model.tokenizer("the cat the").input_ids == [1, 2, 1]
    assert load_tokenizer(str(folder_with_tokenizer))("dog cat").input_ids == [0, 2]


def test_bfloat16(folder, rows):
    model = load_language_model(str(folder), dtype=torch.bfloat16, device=torch.device("cpu"))
    site = Site(HookPoint.mlp_act, 1)
    in_float32 = load_language_model(str(folder)).capture(rows, [site])[site]
    activations = model.capture(rows, [site])[site]
    assert model.dtype == activations.dtype == model.logits(rows).dtype == torch.bfloat16
    assert 0 < (activations.float() - in_float32).abs().max() < 0.1 * in_float32.abs().max()


def test_loading_prints_nothing_and_leaves_logging_as_it_was(folder_with_tokenizer, capfd):
    transformers_logging.enable_progress_bar()
    transformers_logging.set_verbosity_warning()
    capfd.readouterr()
    assert load_language_model(str(folder_with_tokenizer)).tokenizer is not None
    assert capfd.readouterr() == ("", "")
    assert transformers_logging.is_progress_bar_enabled()
    assert transformers_logging.get_verbosity() == logging.WARNING


def test_embedded_models_are_found_by_name(folder_with_tokenizer, monkeypatch):
    monkeypatch.setattr(sources, "EMBEDDED_MODELS", folder_with_tokenizer.parent)
    assert load_language_model("embedded:llama").n_layers == 2
    assert model_identity("embedded:llama") == "embedded:llama"
    message = refusal(RequestError, "embedded:lama")
    assert "no embedded model has this name; expected one of llama" in message
    assert "found 'lama'" in message


def test_identity_does_not_depend_on_how_the_path_is_written(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert model_identity("llama") == model_identity("./llama/") == f"folder:{folder.resolve()}"
    assert model_identity("EleutherAI/pythia-70m") == "hub:EleutherAI/pythia-70m@main"
    assert model_identity("EleutherAI/pythia-70m", "step1000") == "hub:EleutherAI/pythia-70m@step1000"


def test_a_folder_without_tokenizer(folder):
    model = load_language_model(str(folder))
    for ask in (lambda: model.tokenizer, lambda: load_tokenizer(str(folder))):
        with pytest.raises(RequestError) as error:
            ask()
        assert f"model.path={folder}: expected a tokenizer in {folder}" in str(error.value)
        assert "found none; save the model's tokenizer there" in str(error.value)


def test_a_damaged_tokenizer(folder_with_tokenizer):
    (folder_with_tokenizer / "tokenizer.json").write_text('{"version":')
    with pytest.raises(JobError, match=r"expected a tokenizer that transformers reads.*JSONDecodeError"):
        load_tokenizer(str(folder_with_tokenizer))


def test_a_folder_that_is_not_there(tmp_path):
    message = refusal(RequestError, tmp_path / "nope")
    assert f"expected a model folder at {tmp_path / 'nope'}, found nothing there; correct the path" in message


def test_a_file_instead_of_a_folder(folder):
    assert "expected a model folder" in (message := refusal(RequestError, folder / "config.json"))
    assert "found a file" in message


def test_a_folder_without_config(tmp_path):
    message = refusal(RequestError, tmp_path)
    assert f"expected config.json in {tmp_path}, found none; give the folder" in message


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    message = refusal(RequestError, "nobody/no-such-model", revision="step7")
    assert "model.path=nobody/no-such-model: expected a local folder or a model on the hub (revision step7)" in message
    assert "check the name and the network" in message


def test_an_unsupported_model_type(folder):
    edit_config(folder, model_type="bloom")
    message = refusal(RequestError, folder)
    assert "expected a model type among cohere, cohere2, falcon, gemma, gemma2, gemma3, gemma3_text, gpt2" in message
    assert "found 'bloom'; choose another model" in message


def test_opt_with_post_norms_is_refused_before_its_weights_are_read(tmp_path):
    transformers.OPTConfig(do_layer_norm_before=False).save_pretrained(tmp_path)
    message = refusal(RequestError, tmp_path)
    assert f"model {tmp_path} (opt): expected do_layer_norm_before=True, found False" in message


@pytest.mark.parametrize("text", ['{"model_type":', '{"model_type": "llama", "hidden_size": "many"}'])
def test_a_damaged_config(folder, text):
    (folder / "config.json").write_text(text)
    assert f"expected a valid config.json in {folder}" in refusal(JobError, folder)


@pytest.mark.parametrize("kept", [0, 100, -100])
def test_a_cut_off_weights_file(folder, kept):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept])
    message = refusal(JobError, folder)
    assert f"expected weights that fit the config in {folder}, found in model.safetensors" in message
    assert "save or download the model again" in message


def test_weights_of_another_shape(folder):
    edit_config(folder, intermediate_size=40)
    assert "expected weights that fit the config" in refusal(JobError, folder)


def test_a_weight_that_is_missing_is_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    message = refusal(JobError, folder)
    assert "found none for model.layers.1.mlp.down_proj.weight (1 missing in all)" in message


def test_a_folder_without_weights(folder):
    (folder / "model.safetensors").unlink()
    assert "expected a complete model" in refusal(RequestError, folder)


def test_code_that_comes_with_the_model(folder, build, rows, monkeypatch, tmp_path):
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    edit_config(
        folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    )
    message = refusal(RequestError, folder)
    assert "found 'own', which brings Python code to be run" in message
    assert "model.trust_remote_code=true" in message

    model = load_language_model(str(folder), trust_remote_code=True)
    assert type(model.hf).__name__ == "OwnModel"
    assert_close(model.logits(rows), build(CONFIG)(rows).logits)
