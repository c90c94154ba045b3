"""A model's `config.json` without what is no part of the model: how a program once ran it.

The kind of attention, the number format, what is returned besides the logits: all that is chosen here, so that a model
gives the same numbers whatever another program has left in its config. Weights that are no plain numbers are refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from sae_cli.documents import Document, Facts
from sae_cli.escaping import brief

RUN_SETTINGS = frozenset(
    {
        "attn_implementation",
        "_attn_implementation",
        "_attn_implementation_internal",
        "experts_implementation",
        "_experts_implementation",
        "_experts_implementation_internal",
        "dtype",
        "torch_dtype",
        "return_dict",
        "use_return_dict",
        "torchscript",
        "output_attentions",
        "output_hidden_states",
        "use_cache",
        "gradient_checkpointing",
        "use_kernels",
        "device_map",
    }
)
"""Keys of a config that say how the model is run, not what it is."""

_QUANTISATION = ("quantization_config", "quantization", "compression_config")
_BITSANDBYTES = ("load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit")


def plain_config(raw: Facts) -> Document:
    """A raw config, and those of its parts, without `RUN_SETTINGS` and without a padding token that does not exist."""
    plain = {
        key: plain_config(value) if isinstance(value, dict) and key.endswith("_config") else value
        for key, value in raw.items()
        if key not in RUN_SETTINGS and not (key in _QUANTISATION and not _method(value))
    }
    padding, vocabulary = plain.get("pad_token_id"), plain.get("vocab_size")
    if isinstance(padding, int) and isinstance(vocabulary, int) and not 0 <= padding < vocabulary:
        plain["pad_token_id"] = None
    return plain


def quantization(raw: Facts) -> str:
    """How the weights are quantized, as `gptq (quantization_config in config.json)`; empty if they are not."""
    for config in _parts(raw):
        for key in _QUANTISATION:
            if method := _method(config.get(key)):
                return f"{method} ({key} in config.json)"
    return ""


def _parts(raw: Facts) -> Iterator[Facts]:
    """The config and those of its parts."""
    yield raw
    for key, value in raw.items():
        if isinstance(value, dict) and key.endswith("_config") and key not in _QUANTISATION:
            yield from _parts(value)


def _method(settings: object) -> str:
    """The name of a quantization; empty where the settings ask for none."""
    if not settings:
        return ""
    if not isinstance(settings, dict):
        return brief(str(settings))
    method = settings.get("quant_method") or settings.get("format")
    if method in (None, "bitsandbytes") and any(key in settings for key in _BITSANDBYTES):
        return "bitsandbytes" if any(settings.get(key) for key in _BITSANDBYTES) else ""
    if method:
        return brief(str(method))
    bits = settings.get("bits")
    return f"{bits} bits" if bits else "an unnamed method"
