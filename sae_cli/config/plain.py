"""Groups of the configuration as plain values for a file, and back.

Of a group that has several schemas the plain values say which one theirs is, under the key `schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sae_cli.config.groups import GROUPS

SCHEMA = "schema"
INVALID = (OmegaConfBaseException, KeyError, TypeError, AttributeError, ValueError, OverflowError)
"""What is raised where plain values are not those of a schema."""


def plain(value: Any) -> Any:
    """Dataclasses as dictionaries, and the values of enums, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.value if isinstance(value, Enum) else value


def plain_group(group: str, value: Any) -> dict[str, Any]:
    """A typed group, with the name of its schema."""
    names = {schema: name for name, schema in GROUPS[group].items()}
    return {SCHEMA: names[type(value)], **plain(value)}


def group_node(group: str, values: Mapping[str, Any]) -> Any:
    """What `plain_group` has made, checked against its schema; one of `INVALID` where it does not fit."""
    values = dict(values)
    return OmegaConf.merge(OmegaConf.structured(GROUPS[group][values.pop(SCHEMA)]), values)


def typed_group(group: str, values: Mapping[str, Any]) -> Any:
    """The typed group; as `group_node`."""
    return OmegaConf.to_object(group_node(group, values))
