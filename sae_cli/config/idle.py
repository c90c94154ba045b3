"""A setting that changes nothing beside the others."""

from __future__ import annotations

from typing import NamedTuple


class Idle(NamedTuple):
    """A setting without effect.

    Attributes:
        key: its dotted key, or the name of a group none of whose settings has an effect.
        beside: what makes it so.
        instead: what to do.
        shown: it with its value, as it is typed, where it was asked for.
    """

    key: str
    beside: str
    instead: str
    shown: str = ""

    def is_of(self, key: str) -> bool:
        """Whether this setting, or the choice of this group, is it."""
        return key == self.key or key.startswith(f"{self.key}.")
