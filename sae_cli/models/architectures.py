"""Which architectures are supported, and where the parts of each are: a table of module paths.

Adding a model type is one line in `FAMILIES`, if its blocks add an attention and an MLP update to the residual
stream and its MLP ends in a down-projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sae_cli.errors import RequestError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Requirement(NamedTuple):
    """A setting that the model's config must have, and what the model is otherwise."""

    expected: bool
    otherwise: str


@dataclass(frozen=True)
class Family:
    """Paths of the parts of one model type, from the model or, where it says so, from a block.

    Attributes:
        embeddings: the modules that make the input of block 0, the token embedding first.
        blocks: the list of decoder blocks.
        final_norm: the norm before the unembedding.
        attn_out: (block) the module whose output is added to the residual stream for the attention; several paths
            where blocks are of several kinds, of which each block has one.
        mlp_out: (block) the same for the MLP.
        attn_heads: (block) the attention's last linear map, whose input is the heads one after another.
        down_projection: (block) the MLP's last linear map; its input is `mlp_act`. Empty for a mixture of experts,
            which has several and no `mlp_act`.
        post_norms: `attn_out` and `mlp_out` are norms after the attention and the MLP.
        norm_gain_offset: what is added to a norm's weight to give its gain.
        norm_centers: the final norm subtracts the mean though it is no `nn.LayerNorm`.
        adds_in_place: blocks add one update into the tensor of the other.
        residual_multiplier: name of the config's factor of both updates on their way to the residual stream.
        logit_multiplier, logit_divisor: names of the config's factor and divisor of the unembedding's output.
        output_projections: linear maps between the final norm and the unembedding.
        optional: paths among the above that are None in some models of the type.
        soft_cap: name of the config's logit soft cap, where the model's forward applies one.
        requirements: settings without which the parts are not where the table says.
    """

    embeddings: tuple[str, ...]
    blocks: str
    final_norm: str
    attn_out: str | tuple[str, ...]
    mlp_out: str
    down_projection: str
    attn_heads: str
    post_norms: bool = False
    norm_gain_offset: float = 0.0
    norm_centers: bool = False
    adds_in_place: bool = False
    residual_multiplier: str = ""
    logit_multiplier: str = ""
    logit_divisor: str = ""
    output_projections: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    soft_cap: str = ""
    requirements: Mapping[str, Requirement] = field(default_factory=dict)


_GPT2 = Family(
    embeddings=("transformer.wte", "transformer.wpe"),
    blocks="transformer.h",
    final_norm="transformer.ln_f",
    attn_out="attn",
    mlp_out="mlp",
    down_projection="mlp.c_proj",
    attn_heads="attn.c_proj",
)
_LLAMA = Family(
    embeddings=("model.embed_tokens",),
    blocks="model.layers",
    final_norm="model.norm",
    attn_out="self_attn",
    mlp_out="mlp",
    down_projection="mlp.down_proj",
    attn_heads="self_attn.o_proj",
)
_EXPERTS = replace(_LLAMA, down_projection="")
_OLMO2 = replace(_LLAMA, attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm", post_norms=True)
_GEMMA2 = replace(_OLMO2, norm_gain_offset=1.0, soft_cap="final_logit_softcapping")
_COHERE = replace(_LLAMA, norm_centers=True, logit_multiplier="logit_scale")
# Layers of linear attention and of attention in turn.
_QWEN3_5 = replace(_LLAMA, attn_out=("self_attn", "linear_attn"), norm_gain_offset=1.0)
_CAUSAL_GEMMA3 = {"use_bidirectional_attention": Requirement(False, "an encoder, not a causal language model")}
_PRE_NORM_OPT = {
    "do_layer_norm_before": Requirement(True, "OPT's post-norm layout (opt-350m), where updates do not add up")
}

FAMILIES: Mapping[str, Family] = {
    "cohere": _COHERE,
    "cohere2": _COHERE,
    "falcon": Family(
        embeddings=("transformer.word_embeddings",),
        blocks="transformer.h",
        final_norm="transformer.ln_f",
        attn_out="self_attention",
        mlp_out="mlp",
        down_projection="mlp.dense_4h_to_h",
        attn_heads="self_attention.dense",
        adds_in_place=True,
    ),
    "gemma": replace(_LLAMA, norm_gain_offset=1.0),
    "gemma2": _GEMMA2,
    # Gemma 3 with a vision tower, used for text; its forward applies no soft cap.
    "gemma3": replace(
        _GEMMA2,
        embeddings=("model.language_model.embed_tokens",),
        blocks="model.language_model.layers",
        final_norm="model.language_model.norm",
        soft_cap="",
        requirements=_CAUSAL_GEMMA3,
    ),
    "gemma3_text": replace(_GEMMA2, requirements=_CAUSAL_GEMMA3),
    "gpt2": _GPT2,
    "gpt_neo": replace(_GPT2, attn_heads="attn.attention.out_proj"),
    "gpt_neox": Family(
        embeddings=("gpt_neox.embed_in",),
        blocks="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        attn_out="attention",
        mlp_out="mlp",
        down_projection="mlp.dense_4h_to_h",
        attn_heads="attention.dense",
    ),
    "gpt_oss": _EXPERTS,
    "granite": replace(_LLAMA, residual_multiplier="residual_multiplier", logit_divisor="logits_scaling"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _EXPERTS,
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "opt": Family(
        embeddings=("model.decoder.embed_tokens", "model.decoder.project_in", "model.decoder.embed_positions"),
        blocks="model.decoder.layers",
        final_norm="model.decoder.final_layer_norm",
        attn_out="self_attn",
        mlp_out="fc2",
        down_projection="fc2",
        attn_heads="self_attn.out_proj",
        output_projections=("model.decoder.project_out",),
        optional=("model.decoder.project_in", "model.decoder.project_out", "model.decoder.final_layer_norm"),
        requirements=_PRE_NORM_OPT,
    ),
    "phi": replace(_LLAMA, final_norm="model.final_layernorm", down_projection="mlp.fc2", attn_heads="self_attn.dense"),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen2_moe": _EXPERTS,
    "qwen3": _LLAMA,
    # With a vision tower, which is left out, and without.
    "qwen3_5": _QWEN3_5,
    "qwen3_5_text": _QWEN3_5,
    "qwen3_5_moe": replace(_QWEN3_5, down_projection=""),
    "qwen3_5_moe_text": replace(_QWEN3_5, down_projection=""),
    "qwen3_moe": _EXPERTS,
    "smollm3": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": replace(_LLAMA, down_projection="mlp.c_proj"),
}

_BY_PATH = "or a module of this one with hook=module hook.path="


def supported_family(config: PretrainedConfig) -> Family:
    """The description of the config's model type.

    A model with its own code counts as the supported type that its config class derives from.

    Raises:
        RequestError: the type is not supported, or a setting gives it a layout that is not.
    """
    if (why := _why_unsupported(config)) is not None:
        raise RequestError(why)
    return FAMILIES[_family_name(config)]


def is_supported(config: PretrainedConfig) -> bool:
    """Whether `supported_family` has a description."""
    return _why_unsupported(config) is None


def _why_unsupported(config: PretrainedConfig) -> str | None:
    where, model_type = config.name_or_path or type(config).__name__, _family_name(config)
    if not model_type:
        return f"model {where}: {unsupported(config.model_type)}"
    for setting, (expected, otherwise) in FAMILIES[model_type].requirements.items():
        found = getattr(config.get_text_config(), setting, expected)
        if bool(found) is not expected:
            return (
                f"model {where} ({model_type}): expected {setting}={expected}, found {found}; this is {otherwise}, "
                f"which is not supported: choose another model, {_BY_PATH}"
            )
    return None


def _family_name(config: PretrainedConfig) -> str:
    """The model type that the config counts as; empty where none is in the table."""
    return next((name for name in _model_types(config) if name in FAMILIES), "")


def unsupported(model_type: str) -> str:
    """What is said of a model type that has no line in the table."""
    return (
        f"unsupported architecture: expected a model type among {', '.join(FAMILIES)}; found {model_type!r}; "
        f"choose another model, {_BY_PATH}"
    )


def _model_types(config: PretrainedConfig) -> list[str]:
    """The config's model type and, for code that came with the model, those of its base classes."""
    if not type(config).__module__.startswith("transformers_modules"):
        return [config.model_type]
    return [getattr(base, "model_type", "") for base in type(config).__mro__]
