"""State that can be saved and taken up again: tensors by dotted names, from which everything else follows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

State = Mapping[str, Tensor]
"""Numbers are tensors without dimensions, float64 or int64, so that none of their digits is lost."""


@runtime_checkable
class Stateful(Protocol):
    """What can go on in another process as if it had not been stopped."""

    def state(self) -> dict[str, Tensor]:
        """All that changes while it works; not copies."""
        ...

    def restore(self, state: State) -> None:
        """Take up the state of one that was made in the same way; any error where it is not."""
        ...


def number(value: int | float) -> Tensor:
    """A Python number."""
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def below(name: str, state: State) -> dict[str, Tensor]:
    """The state of a part, under its name."""
    return {f"{name}.{key}": tensor for key, tensor in state.items()}


def of(name: str, state: State) -> dict[str, Tensor]:
    """What `below` has put under a name."""
    prefix = f"{name}."
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def check_like(state: State, like: State, growing: Collection[str] = ()) -> None:
    """Refuse a state that is not of one kind with another: the same names, and each of the same dtype and shape.

    Args:
        state: one that was saved.
        like: the other.
        growing: names of which the first dimension may differ.

    Raises:
        ValueError: it is not.
    """
    if others := sorted(state.keys() ^ like.keys()):
        raise ValueError(f"{'no' if others[0] in like else 'an unknown'} {others[0]}")
    for name, tensor in like.items():
        found, any_length = state[name], name in growing
        if found.dtype != tensor.dtype or found.shape[any_length:] != tensor.shape[any_length:]:
            raise ValueError(f"{name} as {found.dtype} {list(found.shape)}")
