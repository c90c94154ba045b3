"""What another program has left in a `config.json` changes no number, and weights that are no numbers are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma2Config, LlamaConfig, LlamaForCausalLM, OPTConfig

from sae_cli.config.hook import HookPoint
from sae_cli.errors import JobError, RequestError
from sae_cli.models import Site, load_language_model
from sae_cli.models.plain_config import quantization

CONFIG = LlamaConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=100,
    max_position_embeddings=24,
)
SITE = Site(HookPoint.mlp_out, 0)


@pytest.fixture
def folder(tmp_path, build) -> Path:
    """A saved tiny Llama."""
    build(CONFIG).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def edit_config(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def refusal(kind: type[Exception], folder: Path) -> str:
    with pytest.raises(kind) as error:
        load_language_model(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "flash_attention_3"},
        {"_attn_implementation": "flex_attention"},
        {"attn_implementation": "eager"},
        {"attn_implementation": "kernels-community/flash-attn"},
        {"dtype": "auto"},
        {"torch_dtype": "auto"},
        {"torch_dtype": "float8_e4m3fn"},
        {"return_dict": False},
        {"torchscript": True},
        {"output_attentions": True, "attn_implementation": "sdpa"},
        {"output_hidden_states": True, "use_cache": True},
        {"pad_token_id": -1},
        {"pad_token_id": 100},
        {"quantization_config": None},
        {"quantization_config": {}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": False, "load_in_8bit": False}},
    ],
    ids=str,
)
def test_how_another_program_ran_a_model_changes_no_number(folder, rows, settings):
    plain = LlamaForCausalLM.from_pretrained(folder).eval()
    kept: list[torch.Tensor] = []
    handle = plain.get_submodule("model.layers.0.mlp").register_forward_hook(lambda *each: kept.append(each[2]))
    with torch.no_grad():
        logits = plain(rows).logits
        handle.remove()
        without = plain(rows, output_hidden_states=True).hidden_states
    edit_config(folder, **settings)
    model = load_language_model(str(folder))
    assert torch.equal(model.logits(rows), logits)
    assert torch.equal(model.capture(rows, [SITE])[SITE], kept[0])
    clean, replaced = model.branches(rows, SITE)
    assert torch.equal(clean.all(), logits)
    assert torch.equal(replaced(lambda each: each).all(), logits)
    assert torch.equal(model.capture(rows, [embeddings := Site(HookPoint.resid, -1)])[embeddings], without[0])


def test_in_bfloat16_the_numbers_are_those_of_transformers(folder, rows):
    plain = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    assert torch.equal(load_language_model(str(folder), dtype=torch.bfloat16).logits(rows), plain(rows).logits)


def test_attention_with_a_soft_cap_is_not_computed_without_it(tmp_path, build, rows, configs):
    build(configs["gemma2"]()).save_pretrained(tmp_path)
    plain = load_language_model(str(tmp_path)).logits(rows)
    edit_config(tmp_path, attn_implementation="sdpa")  # which has no soft cap
    assert torch.equal(load_language_model(str(tmp_path)).logits(rows), plain)
    assert isinstance(load_language_model(str(tmp_path)).hf.config, Gemma2Config)


def test_a_padding_token_that_the_vocabulary_lacks_in_opt(tmp_path, build, rows, configs):
    model = build(configs["opt"]()).eval()
    assert isinstance(model.config, OPTConfig)
    model.save_pretrained(tmp_path)
    edit_config(tmp_path, pad_token_id=50_000)
    assert torch.equal(load_language_model(str(tmp_path)).logits(rows), model(rows).logits)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq (quantization_config in"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq (quantization_config in"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes (quant"),
        ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes (quantization_config in"),
        ({"quantization_config": {"quant_method": "fp8"}}, "fp8 (quantization_config in"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4 (quantization_config in"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors (quantization_config"),
        ({"compression_config": {"format": "pack-quantized"}}, "pack-quantized (compression_config in"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "4 bits (quantization in config.json)"),
    ],
    ids=str,
)
def test_quantized_weights(folder, settings, found):
    edit_config(folder, **settings)
    (folder / "model.safetensors").unlink()  # it is said before they are read
    message = refusal(RequestError, folder)
    assert (
        f"model.path={folder}: expected weights that are plain numbers, found weights quantized by {found}" in message
    )
    assert "give the model as it was before" in message


def test_a_quantized_part_of_a_model():
    assert quantization({"text_config": {"quantization_config": {"quant_method": "awq"}}}).startswith("awq")
    assert not quantization({"text_config": {"quantization_config": None}, "vision_config": {"bits": 4}})


def test_weights_of_bytes_of_which_the_config_says_nothing(folder):
    weights = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    weights[name] = weights[name].to(torch.int8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert f"{name} of I8, expected F32, BF16, F16, F64" in refusal(JobError, folder)


def test_weights_that_the_model_has_no_place_for_are_named(folder, capsys):
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.bias"] = torch.ones(32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load_language_model(str(folder))
    assert "1 weights have no place in a llama" in (said := capsys.readouterr().err)
    assert "model.layers.0.mlp.down_proj.bias" in said
