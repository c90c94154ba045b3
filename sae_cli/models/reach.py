"""A module that is named by its path: where it is, and what one small forward pass says of its activations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from sae_cli.config.hook import Side
from sae_cli.errors import RequestError
from sae_cli.escaping import brief
from sae_cli.models.first_tensor import FirstTensor, first_argument, first_in
from sae_cli.models.hooks import ModuleSide, Tap, described
from sae_cli.tensor_types import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS, _POSITIONS = 2, 5
"""Unlike each other, and unlike most widths, so that one is not taken for the other."""
_NAMES_SHOWN = 3


class Reached(NamedTuple):
    """One side of a module: where it is, and how wide its activations are."""

    tap: Tap
    width: int


def reach(hf: PreTrainedModel, run: Callable[[Rows], object], wanted: ModuleSide) -> Reached:
    """Find a module, and see that its activations are of rows and positions.

    Args:
        hf: the model.
        run: a forward pass over rows of tokens [B, T].
        wanted: the module, and which side of it.

    Raises:
        RequestError: there is no such module, it is not called once in a forward pass, or what is there is not of
            shape (rows, positions, width).
    """
    module = _find(hf, wanted.path)
    asked = f"hook.path={wanted.path} hook.side={wanted.side.value}"
    seen: list[FirstTensor | None] = []
    handle = _watch(module, wanted.side, seen)
    try:
        run(probe_rows(hf))
    finally:
        handle.remove()
    if len(seen) != 1:
        found = f"it is called {len(seen)} times" if seen else "it is not called at all: others use its weights"
        raise RequestError(
            f"{asked}: expected a module that is called once in a forward pass, found that {found}; choose another, as "
            "the one that it is part of"
        )
    (found,) = seen
    shape = found.value.shape if found else ()
    if not found or len(shape) != 3 or shape[:2] != (_ROWS, _POSITIONS) or not found.value.dtype.is_floating_point:
        raise RequestError(
            f"{asked}: expected activations of shape (rows, positions, width), found {described(found)} in a pass over "
            f"{_ROWS} rows of {_POSITIONS} tokens; choose another module, or its other side"
        )
    return Reached(Tap(module, wanted.side is Side.input, asked, written_over=True), shape[2])


def probe_rows(hf: PreTrainedModel) -> Rows:
    """A few rows of tokens that every model has."""
    tokens = torch.arange(_ROWS * _POSITIONS, device=hf.device).reshape(_ROWS, _POSITIONS)
    return tokens.remainder(hf.config.get_text_config().vocab_size)


def _find(hf: PreTrainedModel, path: str) -> nn.Module:
    modules = {name: module for name, module in hf.named_modules(remove_duplicate=False) if name}
    if path in modules:
        return modules[path]
    near = get_close_matches(path, modules, _NAMES_SHOWN)
    raise RequestError(
        f"hook.path={brief(path)}: expected a module of this {hf.config.model_type} ({type(hf).__name__}), found none; "
        + (f"nearest: {', '.join(near)}; " if near else "")
        + f"named_modules() of the model in transformers lists all {len(modules):,} of them"
    )


def _watch(module: nn.Module, side: Side, seen: list[FirstTensor | None]) -> torch.utils.hooks.RemovableHandle:
    def note_input(_: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        seen.append(first_argument(arguments, keywords))

    def note_output(_: nn.Module, arguments: tuple[Any, ...], output: object) -> None:
        seen.append(first_in(output))

    if side is Side.input:
        return module.register_forward_pre_hook(note_input, with_kwargs=True)
    return module.register_forward_hook(note_output)
