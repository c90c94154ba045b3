"""The settings of a configuration as plain values, and which of them change a result.

Execution settings (device, verify, …) do not: two configurations that differ in these only are the same run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from enum import Enum
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from sae_cli.config.command import CommandConfig
from sae_cli.config.groups import declared_settings
from sae_cli.config.paths import with_absolute_paths
from sae_cli.documents import Document, Facts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def flatten(settings: Facts | DataclassInstance) -> Document:
    """Dotted keys to plain JSON values: enums by value, lists as they are.

    Args:
        settings: a configuration as dataclasses, an OmegaConf node or a nested dict.
    """
    if OmegaConf.is_config(settings):
        nested: Any = OmegaConf.to_container(settings, resolve=True)
    else:
        nested = settings if isinstance(settings, Mapping) else asdict(settings)
    flat: Document = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()})
        elif isinstance(value, list):
            flat[key] = [_plain(each) for each in value]
        else:
            flat[key] = _plain(value)
    return flat


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


def result_settings(config: CommandConfig) -> Document:
    """Every setting that changes the result, flattened; paths are absolute."""
    flat = flatten(with_absolute_paths(config))
    declared = declared_settings(type(config))
    added = {each.key: _plain(each.field.default) for each in declared if each.role.added}
    no_result = execution_settings(type(config)) | {key for key in added if flat.get(key) == added[key]}
    return config.normalized({key: value for key, value in flat.items() if key not in no_result})


def execution_settings(schema: type[CommandConfig]) -> frozenset[str]:
    """The dotted keys of a command's settings that change how it is executed, not what comes out."""
    return frozenset(each.key for each in declared_settings(schema) if each.role.execution)
