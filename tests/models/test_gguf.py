"""Models in GGUF files, written here by llama.cpp's own package: the logits of the folder that they are of."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import LlamaConfig

from sae_cli.errors import JobError, RequestError
from sae_cli.models import gguf as of_gguf
from sae_cli.models import load_language_model, load_tokenizer, model_identity
from sae_cli.models.load import save_model

CONFIG = LlamaConfig(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    vocab_size=262,
    max_position_embeddings=24,
    tie_word_embeddings=False,
)
OF_BLOCKS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ROWS = torch.arange(20).reshape(2, 10)


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of queries and keys in the order in which llama.cpp turns them by position."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(model, path: Path, kind: gguf.GGMLQuantizationType) -> None:
    writer, config = gguf.GGUFWriter(str(path), "llama"), model.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    letters = [chr(0x100 + i) if i < 33 else chr(i) for i in range(256)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([*letters, "<s>", "</s>", "th", "he", "in", "an"])
    writer.add_token_merges(["t h", "h e", "i n", "a n"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    names = {name: f"{theirs}.weight" for name, theirs in OUTSIDE.items()}
    for layer in range(config.num_hidden_layers):
        names |= {f"blk.{layer}.{name}": f"model.layers.{layer}.{ours}.weight" for name, ours in OF_BLOCKS.items()}
    for name, ours in names.items():
        value = weights[ours]
        if name.endswith(("attn_q", "attn_k")):
            q = name.endswith("q")
            value = interleaved(value, config.num_attention_heads if q else config.num_key_value_heads)
        of_its = kind if value.ndim > 1 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(value, of_its), raw_dtype=of_its)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def model(build):
    return build(CONFIG)


@pytest.fixture
def file(model, tmp_path) -> Path:
    write_gguf(model, path := tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.F32)
    return path


def test_weights_and_logits_are_those_that_were_written(model, file, capfd):
    loaded = load_language_model(str(file))
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.hf.state_dict()[name], value), name
    assert_close(loaded.logits(ROWS), model(ROWS).logits)
    assert loaded.max_context == CONFIG.max_position_embeddings
    assert capfd.readouterr().err == ""


def test_quantized_weights_are_multiplied_out(model, tmp_path):
    write_gguf(model, path := tmp_path / "tiny.gguf", gguf.GGMLQuantizationType.Q8_0)
    loaded = load_language_model(str(path)).hf.state_dict()
    name = "model.layers.1.mlp.up_proj.weight"
    blocks = model.state_dict()[name].reshape(-1, 32)
    step = blocks.abs().amax(dim=1, keepdim=True) / 127
    # Half a step of rounding; and the step itself is kept in float16.
    assert (loaded[name].reshape(-1, 32) - blocks).abs().le(step * (0.5 + 127 * 2**-11)).all()


def test_it_has_a_tokenizer_a_name_and_can_be_written_as_a_folder(file, tmp_path):
    loaded, tokenizer = load_language_model(str(file)), load_tokenizer(str(file))
    assert tokenizer.convert_ids_to_tokens(tokenizer("then", add_special_tokens=False).input_ids) == ["th", "e", "n"]
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert model_identity(str(file)) == f"file:{file}"
    save_model(loaded, tmp_path / "folder")
    again = load_language_model(str(tmp_path / "folder"))
    assert torch.equal(again.logits(ROWS), loaded.logits(ROWS))
    assert again.tokenizer("then").input_ids == tokenizer("then").input_ids


@pytest.mark.parametrize("kept", [0, 3, 40, 2000, -1])
def test_a_file_that_is_cut_is_one_line(file, kept):
    file.write_bytes(file.read_bytes()[: kept if kept >= 0 else -5000])
    with pytest.raises(JobError, match=r"^model.path=.*tiny.gguf: expected [^\n]+; download it again[^\n]*$"):
        load_language_model(str(file))


def test_what_it_needs_and_what_it_is_not_is_said(file, tmp_path, monkeypatch):
    with pytest.raises(RequestError, match="has no revisions"):
        load_language_model(str(file), revision="main")
    with pytest.raises(RequestError, match=r"expected a model folder at .*none.gguf, found nothing there"):
        load_language_model(str(tmp_path / "none.gguf"))
    monkeypatch.setattr(of_gguf, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r"not installed here, gguf and accelerate: pip install 'sae-cli"):
        load_language_model(str(file))
