"""An adapter that is beside a model is part of it: the numbers are those of peft, or it is said what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.testing import assert_close
from transformers import GPT2Config, LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from sae_cli.errors import JobError, RequestError
from sae_cli.models import load_language_model, load_tokenizer

CONFIG = LlamaConfig(
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    vocab_size=100,
    max_position_embeddings=24,
)
LORA = {"target_modules": ["q_proj", "down_proj"], "r": 4, "lora_alpha": 16, "task_type": "CAUSAL_LM"}

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


@pytest.fixture
def base(tmp_path, build) -> PreTrainedModel:
    """A tiny Llama, saved in `base`."""
    model = build(CONFIG)
    model.save_pretrained(tmp_path / "base")
    return model


def adapted(model: PreTrainedModel, settings: peft.PeftConfig, folder: Path, rows: torch.Tensor) -> torch.Tensor:
    """Save an adapter with random weights for the model in a folder; its logits as peft gives them, in float64, because
    rounding on the way through the model differs between processors."""
    attached: Any = peft.get_peft_model(model, settings)
    for name, parameter in attached.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, mean=1.0 if "ia3" in name else 0.0, std=0.3)
    attached.save_pretrained(folder)
    with torch.no_grad():
        return attached.double().eval()(rows).logits


def lora(**settings: Any) -> peft.LoraConfig:
    return peft.LoraConfig(**{**LORA, **settings})


def refusal(kind: type[Exception], folder: Path) -> str:
    with pytest.raises(kind) as error:
        load_language_model(str(folder))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("model.path=")
    return str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        lora(),
        lora(use_dora=True, bias="none"),
        lora(use_rslora=True, modules_to_save=["lm_head"]),
        peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
    ids=["lora", "dora", "rslora-and-a-whole-head", "ia3"],
)
def test_an_adapter_beside_a_model_is_merged(base, tmp_path, rows, settings):
    plain = base(rows).logits.double()
    logits = adapted(base, settings, tmp_path / "base", rows)
    assert not torch.allclose(logits, plain, atol=1e-2)
    model = load_language_model(str(tmp_path / "base"), dtype=torch.float64)
    assert_close(model.logits(rows), logits, rtol=0, atol=2e-6 * float(logits.abs().max()))
    assert not [name for name, _ in model.hf.named_modules() if "lora" in name or "base_layer" in name]


def test_a_folder_that_is_only_an_adapter(base, tmp_path, rows, monkeypatch):
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    ).save_pretrained(tmp_path / "base")
    logits = adapted(base, lora(), tmp_path / "tuned" / "adapter", rows)
    for name in (str(tmp_path / "base"), "../../base"):
        config = json.loads((file := tmp_path / "tuned" / "adapter" / "adapter_config.json").read_text())
        file.write_text(json.dumps(config | {"base_model_name_or_path": name}))
        for place in (tmp_path, tmp_path / "tuned"):  # a relative path is one from the adapter
            monkeypatch.chdir(place)
            found = load_language_model(str(file.parent), dtype=torch.float64).logits(rows)
            assert_close(found, logits, rtol=0, atol=1e-5)
    assert load_tokenizer(str(file.parent))("a").input_ids == [1]


def test_an_adapter_of_a_model_of_another_kind(tmp_path, build, rows):
    model = build(GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=24, vocab_size=100))
    model.save_pretrained(tmp_path)
    logits = adapted(model, lora(target_modules=["c_attn", "c_fc"], fan_in_fan_out=True), tmp_path, rows)
    found = load_language_model(str(tmp_path), dtype=torch.float64).logits(rows)
    assert_close(found, logits, rtol=0, atol=1e-5)


def test_an_adapter_is_merged_before_numbers_are_rounded(base, tmp_path, rows):
    adapted(base, lora(), tmp_path / "base", rows)
    in_float32 = load_language_model(str(tmp_path / "base"))
    rounded = load_language_model(str(tmp_path / "base"), dtype=torch.bfloat16)
    assert torch.equal(in_float32.hf.lm_head.weight.bfloat16(), rounded.hf.lm_head.weight)
    # As in a merged model that was saved and is loaded in bfloat16: rotary frequencies are not rounded.
    in_float32.hf.save_pretrained(tmp_path / "saved")
    assert torch.equal(
        load_language_model(str(tmp_path / "saved"), dtype=torch.bfloat16).logits(rows), rounded.logits(rows)
    )
    assert rounded.hf.model.rotary_emb.inv_freq.dtype == torch.float32
    merged = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(in_float32.hf.state_dict()[merged].bfloat16(), rounded.hf.state_dict()[merged])


def test_without_peft_an_adapter_is_not_passed_over(base, tmp_path, rows, monkeypatch):
    adapted(base, lora(), tmp_path / "base", rows)
    monkeypatch.setitem(sys.modules, "peft", None)
    message = refusal(RequestError, tmp_path / "base")
    assert "there is an adapter of fine-tuning beside the model (adapter_config.json, LORA)" in message
    assert "pip install 'sae-cli[peft]'" in message


def test_an_adapter_whose_model_is_not_there(base, tmp_path, rows):
    adapted(base, lora(), tmp_path / "adapter", rows)
    config = json.loads((file := tmp_path / "adapter" / "adapter_config.json").read_text())
    for name, kind, said in [
        ("/nowhere/base", RequestError, "an adapter of the model at /nowhere/base, expected that folder to be there"),
        ("../gone/base", RequestError, "expected that folder to be there, found none; give its place as base_model"),
        ("", JobError, "no base_model_name_or_path, and no model beside it"),
    ]:
        file.write_text(json.dumps(config | {"base_model_name_or_path": name}))
        assert said in refusal(kind, tmp_path / "adapter")


def test_an_adapter_that_is_damaged_or_does_not_fit(base, tmp_path, rows):
    adapted(base, lora(), tmp_path / "base", rows)
    config, weights = tmp_path / "base" / "adapter_config.json", tmp_path / "base" / "adapter_model.safetensors"
    whole, tensors, text = weights.read_bytes(), load_file(weights), config.read_text()

    first = next(iter(tensors))
    save_file({name: tensor for name, tensor in tensors.items() if name != first}, weights)
    assert "(1 missing in all)" in refusal(JobError, tmp_path / "base")
    save_file({**tensors, first: torch.zeros(3, 3)}, weights)
    assert "expected an adapter (LORA) that fits the model" in refusal(JobError, tmp_path / "base")
    save_file({**tensors, f"{first}.more": torch.zeros(3)}, weights)
    assert "which the model does not have (1 in all)" in refusal(JobError, tmp_path / "base")
    weights.write_bytes(whole[:100])
    assert "adapter_model.safetensors" in refusal(JobError, tmp_path / "base")
    weights.unlink()
    assert "found neither adapter_model.safetensors nor" in refusal(JobError, tmp_path / "base")
    config.write_text("{")
    assert "expected a valid adapter_config.json" in refusal(JobError, tmp_path / "base")
    config.write_text(json.dumps(json.loads(text) | {"task_type": "SEQ_CLS"}))
    assert "expected an adapter of a causal language model, found task_type='SEQ_CLS'" in refusal(
        RequestError, tmp_path / "base"
    )


def test_an_adapter_that_is_no_change_of_weights(base, tmp_path, rows):
    adapted(base, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3), tmp_path / "base", rows)
    message = refusal(RequestError, tmp_path / "base")
    assert "expected an adapter that can be merged into weights, as LoRA can, found PROMPT_TUNING" in message


def test_an_adapter_of_an_unembedding_that_is_tied(tmp_path, build, rows):
    tied = build(LlamaConfig(**{**CONFIG.to_dict(), "tie_word_embeddings": True}))
    tied.save_pretrained(tmp_path)
    adapted(tied, lora(target_modules=["lm_head"]), tmp_path, rows)
    assert "the model with the adapter (LORA) merged gives other logits" in refusal(RequestError, tmp_path)
