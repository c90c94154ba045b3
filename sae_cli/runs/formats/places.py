"""Places in a model as other tools name them, and models that they have names of their own for."""

from __future__ import annotations

import re
from pathlib import Path

from sae_cli.config.hook import HookConfig, HookPoint, SiteConfig
from sae_cli.models import FAMILIES

_TRANSFORMER_LENS = {
    "hook_resid_post": (HookPoint.resid, 0),
    "hook_resid_pre": (HookPoint.resid, -1),
    "hook_mlp_out": (HookPoint.mlp_out, 0),
    "hook_attn_out": (HookPoint.attn_out, 0),
    "mlp.hook_post": (HookPoint.mlp_act, 0),
}
"""Of a block: the hook point, and what is added to the number of the block."""

_MODULES = {
    "": HookPoint.resid,
    "output": HookPoint.resid,
    "mlp": HookPoint.mlp_out,
    "mlp.output": HookPoint.mlp_out,
    "post_feedforward_layernorm.output": HookPoint.mlp_out,
    "self_attn": HookPoint.attn_out,
    "attention": HookPoint.attn_out,
    "attn": HookPoint.attn_out,
    "post_attention_layernorm.output": HookPoint.attn_out,
    "mlp.down_proj.input": HookPoint.mlp_act,
    "mlp.dense_4h_to_h.input": HookPoint.mlp_act,
}
"""Of a block: modules by their paths in models of Hugging Face."""

_WORDS = {
    "resid_post": HookPoint.resid,
    "resid": HookPoint.resid,
    "mlp_out": HookPoint.mlp_out,
    "attn_out": HookPoint.attn_out,
    "attention_out": HookPoint.attn_out,
    "mlp_act": HookPoint.mlp_act,
}
"""In `resid_post_layer_3`."""

_BLOCK = re.compile(r"blocks\.(\d{1,4})\.(.+)")
_BASE = r"(?:(?:model|transformer|gpt_neox|language_model|decoder)\.)*"
_MODULE = re.compile(_BASE + r"(?:layers|h)\.(\d{1,4})(?:\.(.+))?")
_WORD = re.compile(r"([a-z_]+?)_layer_?(\d{1,4})")
_HEADS_NAME = "attn.hook_z"
_HEADS = {f"{family.attn_heads}.input" for family in FAMILIES.values()}
HEADS = "attention heads"
"""The heads of an attention one after another, the input of its last linear map: here it is one side of a module."""
_EMBEDDINGS = ("hook_embed", "embed_tokens", "embed_in", "wte", "model.embed_tokens")

_ALIASES = {
    "gpt2": "openai-community/gpt2",
    "gpt2-small": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "gemma-2b": "google/gemma-2b",
    "gemma-2b-it": "google/gemma-2b-it",
    "llama-3-8b-it": "meta-llama/Meta-Llama-3-8B-Instruct",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
}
_OWNERS = {
    r"pythia-\d+(\.\d+)?[mb](-deduped)?": "EleutherAI",
    r"gemma-(2|3)-\d+m?b?(-it|-pt)?": "google",
    r"(Meta-)?Llama-3.*": "meta-llama",
    r"Qwen[23].*": "Qwen",
    r"SmolLM2.*": "HuggingFaceTB",
    r"opt-.*": "facebook",
}
_HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
EMBEDDED = "embedded:"


def site_of(name: str) -> SiteConfig | None:
    """The place that a name of TransformerLens, a path of a module, or `resid_post_layer_3` stands for; None where it
    is none that this version has."""
    if name in _EMBEDDINGS or name.removeprefix("blocks.0.") == "hook_embed":
        return SiteConfig(HookConfig(point=HookPoint.resid), -1)
    if (found := _BLOCK.fullmatch(name)) and found[2] in _TRANSFORMER_LENS:
        point, shift = _TRANSFORMER_LENS[found[2]]
        return SiteConfig(HookConfig(point=point), int(found[1]) + shift)
    if (found := _MODULE.fullmatch(name)) and (found[2] or "") in _MODULES:
        return SiteConfig(HookConfig(point=_MODULES[found[2] or ""]), int(found[1]))
    if (found := _WORD.fullmatch(name)) and found[1] in _WORDS:
        return SiteConfig(HookConfig(point=_WORDS[found[1]]), int(found[2]))
    return None


def heads_layer(name: str) -> int | None:
    """The block whose attention's heads, one after another, a name of TransformerLens or a side of a module stands for;
    None where it is something else."""
    if (found := _BLOCK.fullmatch(name)) and found[2] == _HEADS_NAME:
        return int(found[1])
    found = _MODULE.fullmatch(name)
    return int(found[1]) if found and found[2] in _HEADS else None


def model_of(name: str) -> str | None:
    """The hub id, the embedded model, or the folder on this machine that a model's name stands for; None where it is
    none that is known: a folder of somebody else's machine, say."""
    if Path(name).is_absolute() and Path(name, "config.json").is_file():
        return name
    if name.startswith(EMBEDDED) or _HUB_ID.fullmatch(name):
        return name
    if name.lower() in _ALIASES:
        return _ALIASES[name.lower()]
    owner = next((owner for pattern, owner in _OWNERS.items() if re.fullmatch(pattern, name, re.IGNORECASE)), None)
    return owner and f"{owner}/{name}"


def transformer_lens(hook: str, layer: int) -> str | None:
    """What TransformerLens calls one of our hook points, or `HEADS`; None where it has none."""
    if hook == HEADS:
        return f"blocks.{layer}.{_HEADS_NAME}"
    if hook == HookPoint.resid.value and layer == -1:
        return "blocks.0.hook_resid_pre"
    names = {point.value: name for name, (point, shift) in _TRANSFORMER_LENS.items() if shift == 0}
    return f"blocks.{layer}.{names[hook]}" if hook in names else None


def transformer_lens_model(model: str) -> str:
    """What TransformerLens calls a model of the hub."""
    names = {hub: name for name, hub in _ALIASES.items()}
    return names.get(model, model)


def module_path(hook: str, layer: int, model: str) -> str | None:
    """The path of the module whose output is one of our hook points, without the name of the base model; None where
    it is no module's output."""
    gpt2, neox = "gpt2" in model, "pythia" in model or model.startswith(EMBEDDED)
    block = f"{'h' if gpt2 else 'layers'}.{layer}"
    attention = "attn" if gpt2 else "attention" if neox else "self_attn"
    parts = {HookPoint.resid.value: "", HookPoint.mlp_out.value: ".mlp", HookPoint.attn_out.value: f".{attention}"}
    return f"{block}{parts[hook]}" if hook in parts and layer >= 0 else None
