"""What has to be known of a model that is in no table of families, as far as it can be seen from outside: which class
it is, how long its rows may be, and whether it predicts the next token."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sae_cli.errors import RequestError, is_out_of_memory
from sae_cli.escaping import brief
from sae_cli.tensor_types import Rows

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

UNLIMITED = 2**20
"""Tokens a row of models without a longest one: recurrent ones, and those of relative positions."""
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-9}
_COARSE = 3e-2
_FAILED = (TypeError, ValueError, RuntimeError, IndexError, AttributeError)


def model_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    """The class of transformers that the config's weights were saved from; a causal language model where it does not
    say, and transformers has one of the type.

    Raises:
        RequestError: it is none that reads rows of tokens and nothing else.
    """
    import transformers

    names = getattr(config, "architectures", None)
    named: Any = getattr(transformers, str(names[0]), None) if isinstance(names, list) and names else None
    is_model = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
    found: Any = named if is_model and isinstance(config, named.config_class or ()) else _automatic(config)
    if config.is_encoder_decoder and "Encoder" not in found.__name__:
        raise RequestError(
            f"model {config.name_or_path or found.__name__}: expected a model that reads rows of tokens alone, found "
            f"{found.__name__}, whose decoder reads others than its encoder; choose another model"
        )
    return found


def _automatic(config: PretrainedConfig) -> object:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING

    for mapping in (MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING):
        if type(config) in mapping:
            return mapping[type(config)]
    raise RequestError(
        f"model {config.name_or_path}: expected a model of transformers, found the type {config.model_type!r} without "
        "architectures in its config.json; choose another model"
    )


def options(hf: PreTrainedModel) -> dict[str, bool]:
    """What a forward pass is told besides its tokens: that it keeps no states for later ones."""
    if hasattr(hf.config, "use_cache"):
        hf.config.use_cache = False
    known = inspect.signature(hf.forward).parameters
    return {name: value for name, value in (("use_cache", False), ("return_dict", True)) if name in known}


def vocabulary(hf: PreTrainedModel) -> int:
    """How many token ids the model takes."""
    weight = getattr(hf.get_input_embeddings(), "weight", None)
    return len(weight) if isinstance(weight, Tensor) else hf.config.get_text_config().vocab_size


def longest_row(hf: PreTrainedModel) -> int:
    """Tokens of the longest row that the model takes."""
    longest = getattr(hf.config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(longest, int) or longest <= 0:
        return UNLIMITED
    for name, module in hf.named_modules():
        # RoBERTa and its relatives count positions from the one after that of padding.
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return min(longest, module.num_embeddings - module.padding_idx - 1)
    return longest


def checked(run: Callable[[Rows], object], called: str) -> Callable[[Rows], object]:
    """A forward pass whose failure on its first few tokens is a `RequestError`."""

    def run_once(rows: Rows) -> object:
        try:
            return run(rows)
        except _FAILED as error:
            if is_out_of_memory(error):
                raise
            said = brief(" ".join(str(error).split()), 200)
            raise RequestError(
                f"{called}: expected a model that reads rows of tokens alone, found that it fails on them: "
                f"{type(error).__name__}: {said}; choose another model"
            ) from error

    return run_once


@torch.no_grad()
def predicts_next_token(run: Callable[[Rows], object], tokens: int, device: torch.device) -> bool:
    """Whether the model gives logits of every token at every position that do not depend on later tokens.

    Args:
        run: a forward pass over rows of tokens [B, T].
        tokens: how many there are.
        device: of the rows.
    """
    row, early = torch.arange(1, 9, device=device), 4
    other = torch.where(torch.arange(8, device=device) < early, row, row + 11)
    rows = torch.stack([row, other]).remainder(tokens)
    logits = getattr(run(rows), "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 3 or logits.shape[:2] != rows.shape:
        return False
    if logits.shape[2] < tokens // 2:  # of labels, not of tokens
        return False
    apart = (logits[0] - logits[1]).abs().amax(dim=-1)
    allowed = _ROUNDING.get(logits.dtype, _COARSE)
    return float(apart[:early].max()) <= allowed * float(apart[early:].max())
