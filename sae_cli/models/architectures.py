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
        attn_out: (block) the module whose output is added to the residual stream for the attention.
        mlp_out: (block) the same for the MLP.
        down_projection: (block) the MLP's last linear map; its input is `mlp_act`. Empty for a mixture of experts,
            which has several and no `mlp_act`.
        post_norms: `attn_out` and `mlp_out` are norms after the attention and the MLP.
        norm_gain_offset: what is added to a norm's weight to give its gain.
        output_projections: linear maps between the final norm and the unembedding.
        optional: paths among the above that are None in some models of the type.
        soft_cap: name of the config's logit soft cap, where the model's forward applies one.
        requirements: settings without which the parts are not where the table says.
    """

    embeddings: tuple[str, ...]
    blocks: str
    final_norm: str
    attn_out: str
    mlp_out: str
    down_projection: str
    post_norms: bool = False
    norm_gain_offset: float = 0.0
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
)
_LLAMA = Family(
    embeddings=("model.embed_tokens",),
    blocks="model.layers",
    final_norm="model.norm",
    attn_out="self_attn",
    mlp_out="mlp",
    down_projection="mlp.down_proj",
)
_EXPERTS = replace(_LLAMA, down_projection="")
_OLMO2 = replace(_LLAMA, attn_out="post_attention_layernorm", mlp_out="post_feedforward_layernorm", post_norms=True)
_GEMMA2 = replace(_OLMO2, norm_gain_offset=1.0, soft_cap="final_logit_softcapping")
_CAUSAL_GEMMA3 = {"use_bidirectional_attention": Requirement(False, "an encoder, not a causal language model")}
_PRE_NORM_OPT = {
    "do_layer_norm_before": Requirement(True, "OPT's post-norm layout (opt-350m), where updates do not add up")
}

FAMILIES: Mapping[str, Family] = {
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
    "gpt_neo": _GPT2,
    "gpt_neox": Family(
        embeddings=("gpt_neox.embed_in",),
        blocks="gpt_neox.layers",
        final_norm="gpt_neox.final_layer_norm",
        attn_out="attention",
        mlp_out="mlp",
        down_projection="mlp.dense_4h_to_h",
    ),
    "gpt_oss": _EXPERTS,
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
        output_projections=("model.decoder.project_out",),
        optional=("model.decoder.project_in", "model.decoder.project_out", "model.decoder.final_layer_norm"),
        requirements=_PRE_NORM_OPT,
    ),
    "phi": replace(_LLAMA, final_norm="model.final_layernorm", down_projection="mlp.fc2"),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen2_moe": _EXPERTS,
    "qwen3": _LLAMA,
    "qwen3_moe": _EXPERTS,
    "smollm3": _LLAMA,
    "stablelm": _LLAMA,
    "starcoder2": replace(_LLAMA, down_projection="mlp.c_proj"),
}


def supported_family(config: PretrainedConfig) -> Family:
    """The description of the config's model type.

    A model with its own code counts as the supported type that its config class derives from.

    Raises:
        RequestError: the type is not supported, or a setting gives it a layout that is not.
    """
    where = config.name_or_path or type(config).__name__
    model_type = next((name for name in _model_types(config) if name in FAMILIES), None)
    if model_type is None:
        raise RequestError(f"model {where}: {unsupported(config.model_type)}")
    family = FAMILIES[model_type]
    for setting, (expected, otherwise) in family.requirements.items():
        found = getattr(config.get_text_config(), setting, expected)
        if bool(found) is not expected:
            raise RequestError(
                f"model {where} ({model_type}): expected {setting}={expected}, found {found}; this is {otherwise}, "
                "which is not supported: choose another model"
            )
    return family


def unsupported(model_type: str) -> str:
    """What is said of a model type that has no line in the table."""
    return (
        f"unsupported architecture: expected a model type among {', '.join(FAMILIES)}; found {model_type!r}; "
        "choose another model"
    )


def _model_types(config: PretrainedConfig) -> list[str]:
    """The config's model type and, for code that came with the model, those of its base classes."""
    if not type(config).__module__.startswith("transformers_modules"):
        return [config.model_type]
    return [getattr(base, "model_type", "") for base in type(config).__mro__]
