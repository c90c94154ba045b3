"""The numbers that a setting may take: declared beside the setting, checked for all of them in one place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING

_BOUNDS = "bounds"


@dataclass(frozen=True)
class Bounds:
    """An interval: `[at_least` or `(above` to `at_most]` or `below)`."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        words = (("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below))
        return " and ".join(f"{word} {bound:g}" for word, bound in words if math.isfinite(bound))


def number(default: Any = MISSING, **bounds: float) -> Any:
    """A field of a schema with `Bounds(**bounds)`; without a default it must be given."""
    return field(default=default, metadata={_BOUNDS: Bounds(**bounds)})


def out_of_bounds(config: Any, prefix: str = "") -> Iterator[str]:
    """For every setting outside its bounds, the key, what was expected and what was found."""
    for each in fields(config):
        value = getattr(config, each.name)
        if is_dataclass(value):
            yield from out_of_bounds(value, f"{prefix}{each.name}.")
        elif value is not None and _BOUNDS in each.metadata and value not in each.metadata[_BOUNDS]:
            yield f"{prefix}{each.name}={value}: expected {each.metadata[_BOUNDS]}"
