"""The activations among what a module is called with, or returns: the first tensor there, and how another takes its
place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor


class FirstTensor(NamedTuple):
    """A tensor in a structure.

    Attributes:
        value: the tensor.
        replaced: from what takes its place to the structure with that in it; the structure itself stays as it is.
    """

    value: Tensor
    replaced: Callable[[Tensor], object]


def first_in(structure: object) -> FirstTensor | None:
    """The first tensor of an output: the output itself, or the first in a tuple, a list or a mapping such as
    transformers' `ModelOutput`; None where there is none."""
    match structure:
        case Tensor():
            return FirstTensor(structure, lambda tensor: tensor)
        case tuple() | list():
            found = next((i for i, each in enumerate(structure) if isinstance(each, Tensor)), None)
            return (
                None if found is None else FirstTensor(structure[found], lambda new: _with_item(structure, found, new))
            )
        case Mapping():
            key = next((key for key, each in structure.items() if isinstance(each, Tensor)), None)
            return None if key is None else FirstTensor(structure[key], lambda new: _with_key(structure, key, new))
    return None


def first_argument(arguments: tuple[object, ...], keywords: Mapping[str, object]) -> FirstTensor | None:
    """The first tensor that a module is called with, by position if any is, else by keyword; what it is replaced in is
    the pair of both."""
    if (found := first_in(arguments)) is not None:
        return FirstTensor(found.value, lambda tensor: (found.replaced(tensor), dict(keywords)))
    if (found := first_in(keywords)) is not None:
        return FirstTensor(found.value, lambda tensor: (arguments, found.replaced(tensor)))
    return None


def _with_item(items: tuple[Any, ...] | list[Any], place: int, new: Tensor) -> object:
    changed = [*items[:place], new, *items[place + 1 :]]
    if isinstance(items, list):
        return changed
    return type(items)(*changed) if hasattr(items, "_fields") else tuple(changed)


def _with_key(mapping: Mapping[Any, Any], key: object, new: Tensor) -> object:
    kind: Any = type(mapping)
    return kind(**{**mapping, str(key): new})
