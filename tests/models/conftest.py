"""Tiny models of every supported architecture, with random weights that leave nothing at 0 or 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from sae_cli.errors import RequestError
from sae_cli.models import LanguageModel

SIZES = {"num_hidden_layers": 3, "vocab_size": 100, "max_position_embeddings": 24, "hidden_size": 32}
GATED = {**SIZES, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
WITHOUT_HEADS = {key: value for key, value in GATED.items() if key != "head_dim"}
GPT2 = {"n_layer": 3, "vocab_size": 100, "n_positions": 24, "n_embd": 32, "n_head": 4, "n_inner": 48}
NEO = {
    **SIZES,
    "num_heads": 4,
    "intermediate_size": 48,
    "window_size": 4,
    "attention_types": [[["global", "local"], 2]],
}
NEOX = {**SIZES, "intermediate_size": 48, "num_attention_heads": 4}
OPT = {**SIZES, "ffn_dim": 48, "num_attention_heads": 4, "word_embed_proj_dim": 32}
FALCON = {**SIZES, "ffn_hidden_size": 48, "num_attention_heads": 4}
GRANITE = {"residual_multiplier": 0.3, "embedding_multiplier": 3.0, "logits_scaling": 4.0, "attention_multiplier": 0.2}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
LOCAL = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
}
# Large enough weights make logits of a few units, which these caps visibly bend.
CAPS = {"final_logit_softcapping": 2.0, "attn_logit_softcapping": 5.0}

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "cohere": partial(transformers.CohereConfig, **WITHOUT_HEADS, logit_scale=2.0, pad_token_id=0),
    "cohere2": partial(transformers.Cohere2Config, **WITHOUT_HEADS, **LOCAL, logit_scale=2.0, pad_token_id=0),
    "falcon": partial(transformers.FalconConfig, **FALCON),
    "falcon-alibi": partial(transformers.FalconConfig, **FALCON, alibi=True, parallel_attn=False, bias=True),
    "falcon-new": partial(transformers.FalconConfig, **FALCON, new_decoder_architecture=True, num_kv_heads=2),
    "gemma": partial(transformers.GemmaConfig, **GATED),
    "gemma2": partial(transformers.Gemma2Config, **GATED, **LOCAL, **CAPS),
    "gemma3": partial(
        transformers.Gemma3Config,
        # Its forward ignores the cap, and so must the parts.
        text_config={**GATED, **LOCAL, "final_logit_softcapping": 2.0},
        vision_config={**VISION, "patch_size": 14},
        mm_tokens_per_image=4,
    ),
    "gemma3_text": partial(transformers.Gemma3TextConfig, **GATED, **LOCAL, final_logit_softcapping=2.0),
    "gpt2": partial(transformers.GPT2Config, **GPT2),
    "gpt_neo": partial(transformers.GPTNeoConfig, **{**NEO, "num_layers": 4, "num_hidden_layers": 4}),
    "gpt_neox": partial(transformers.GPTNeoXConfig, **NEOX),
    "gpt_neox-sequential": partial(transformers.GPTNeoXConfig, **NEOX, use_parallel_residual=False),
    "granite": partial(transformers.GraniteConfig, **WITHOUT_HEADS, **GRANITE),
    "llama": partial(transformers.LlamaConfig, **GATED),
    "llama-tied-biased": partial(transformers.LlamaConfig, **GATED, tie_word_embeddings=True, mlp_bias=True),
    "mistral": partial(transformers.MistralConfig, **GATED, sliding_window=4),
    "olmo2": partial(transformers.Olmo2Config, **WITHOUT_HEADS),
    "olmo3": partial(transformers.Olmo3Config, **WITHOUT_HEADS, **LOCAL),
    "opt": partial(transformers.OPTConfig, **OPT),
    "opt-projected": partial(transformers.OPTConfig, **{**OPT, "word_embed_proj_dim": 16}),
    "opt-no-final-norm": partial(transformers.OPTConfig, **OPT, _remove_final_layer_norm=True),
    "phi": partial(transformers.PhiConfig, **NEOX),
    "phi3": partial(transformers.Phi3Config, **WITHOUT_HEADS, pad_token_id=0, original_max_position_embeddings=24),
    "qwen2": partial(transformers.Qwen2Config, **WITHOUT_HEADS),
    "qwen3": partial(transformers.Qwen3Config, **GATED),
    "qwen3_5_text": partial(transformers.Qwen3_5TextConfig, **GATED, **LINEAR),
    "smollm3": partial(transformers.SmolLM3Config, **WITHOUT_HEADS, pad_token_id=0, no_rope_layers=[1, 0, 1]),
    "stablelm": partial(transformers.StableLmConfig, **WITHOUT_HEADS),
    "stablelm-parallel": partial(transformers.StableLmConfig, **WITHOUT_HEADS, use_parallel_residual=True),
    "starcoder2": partial(transformers.Starcoder2Config, **WITHOUT_HEADS, sliding_window=4),
}


def random_hf(config: PretrainedConfig) -> PreTrainedModel:
    """A model whose gains and biases are random too: transformers starts them at 1 and 0, which hides mistakes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hf = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in hf.parameters():
                noise = torch.randn_like(parameter)
                parameter.add_(0.3 * noise) if parameter.ndim == 1 else parameter.copy_(0.2 * noise)
    return hf


def no_tokenizer() -> transformers.PreTrainedTokenizerBase:
    raise RequestError("a model made in memory has no tokenizer")


def logit_factor(model: LanguageModel) -> float:
    """What some architectures multiply the unembedding's output by, as their configs say."""
    config = model.hf.config
    return getattr(config, "logit_scale", 1.0) / getattr(config, "logits_scaling", 1.0)


@cache
def tiny(name: str) -> LanguageModel:
    return LanguageModel(random_hf(CONFIGS[name]()), no_tokenizer)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other make models of this size several times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny(request.param)


@pytest.fixture
def configs() -> dict[str, Callable[[], PretrainedConfig]]:
    return CONFIGS


@pytest.fixture
def llama() -> LanguageModel:
    return tiny("llama")


@pytest.fixture
def rows() -> Tensor:
    return torch.randint(3, 100, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def build() -> Callable[[PretrainedConfig], PreTrainedModel]:
    """Makes a model with random weights from its config."""
    return random_hf
