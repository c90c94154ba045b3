"""YAML that anybody may have written, read as plain values: no tags, no anchors, no interpolations.

Anchors would let a few lines stand for gigabytes, tags ask for objects, and interpolations ask for what is in the
environment of whoever reads the file.
"""

from __future__ import annotations

import math
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node

MAX_BYTES = 256 << 10
_MAX_DEPTH = 16


def parse_yaml(content: bytes) -> Any:
    """The plain value of a YAML document.

    Raises:
        ValueError: it is none, or has what plain values do not have; one line says what.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{len(content):,} bytes, more than {MAX_BYTES:,}")
    try:
        value = yaml.load(content.decode(), _PlainLoader)
    except (yaml.YAMLError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    _check_values(value)
    return value


class _PlainLoader(yaml.SafeLoader):
    """Refuses what only a stranger would write, while it is read."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event: Any = self.peek_event()
        if self.check_event(yaml.AliasEvent) or event.anchor is not None:
            raise ValueError("an anchor or alias")
        if event.tag is not None:
            raise ValueError("a tag")
        if self.depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_DEPTH} levels of nesting")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys) or "<<" in keys:
            raise ValueError("keys that are not text, each once")
        return super().construct_mapping(node, deep)


def _check_values(value: Any) -> None:
    if isinstance(value, dict):
        for key, each in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r}, which is no text")
            _check_values(key)
            _check_values(each)
    elif isinstance(value, list):
        for each in value:
            _check_values(each)
    elif isinstance(value, str):
        value.encode()  # refuses lone surrogates
        if "${" in value:
            raise ValueError(f"an interpolation, {value}")
    elif isinstance(value, int):
        if abs(value) >= 2**64:
            raise ValueError("an integer of more than 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value}, which is no finite number")
    elif value is not None:
        raise ValueError(f"a {type(value).__name__}")
