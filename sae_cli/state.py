"""State that can be saved and taken up again: tensors by dotted names, from which everything else follows."""

from __future__ import annotations

from collections.abc import Mapping
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
        """Take up the state of one that was made in the same way."""
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
