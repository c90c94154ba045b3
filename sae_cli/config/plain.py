"""Groups of the configuration as plain values for a file, and back.

Of a group that has several schemas the plain values say which one theirs is, under the key `schema`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Literal, overload

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sae_cli.config.data import DataConfig
from sae_cli.config.groups import GROUPS
from sae_cli.config.hook import HookConfig
from sae_cli.config.model import ModelConfig
from sae_cli.documents import Document, Facts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SCHEMA = "schema"
INVALID = (OmegaConfBaseException, KeyError, TypeError, AttributeError, ValueError, OverflowError)
"""What is raised where plain values are not those of a schema."""


@overload
def plain(value: DataclassInstance) -> Document: ...


@overload
def plain(value: object) -> object: ...


def plain(value: object) -> object:
    """Dataclasses as dictionaries, and the values of enums, all the way down."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.value if isinstance(value, Enum) else value


def plain_group(group: str, value: DataclassInstance) -> Document:
    """A typed group, with the name of its schema."""
    names = {schema: name for name, schema in GROUPS[group].items()}
    return {SCHEMA: names[type(value)], **plain(value)}


def group_node(group: str, values: Facts) -> DictConfig | ListConfig:
    """What `plain_group` has made, checked against its schema; one of `INVALID` where it does not fit."""
    given = dict(values)
    schemas: dict[object, type] = {**GROUPS[group]}
    return OmegaConf.merge(OmegaConf.structured(schemas[given.pop(SCHEMA)]), given)


@overload
def typed_group(group: Literal["model"], values: Facts) -> ModelConfig: ...


@overload
def typed_group(group: Literal["data"], values: Facts) -> DataConfig: ...


@overload
def typed_group(group: Literal["hook"], values: Facts) -> HookConfig: ...


def typed_group(group: str, values: Facts) -> object:
    """The typed group; as `group_node`."""
    return OmegaConf.to_object(group_node(group, values))
