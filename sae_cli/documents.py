"""What is handed on to a JSON file, or to stdout, by those who need not look into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias, TypeGuard

Document: TypeAlias = dict[str, object]
"""An object of JSON that is being made: its values are written, and not read here."""

Facts: TypeAlias = Mapping[str, object]
"""Settings, facts or figures by their names, of any kind: who uses one of them sees what it is."""


def is_document(value: object) -> TypeGuard[Document]:
    """Whether what was read of JSON is an object."""
    return isinstance(value, dict)


def is_array(value: object) -> TypeGuard[list[object]]:
    """Whether it is an array."""
    return isinstance(value, list)
