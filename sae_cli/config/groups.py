"""The groups of the configuration, the schemas that their options have, and the settings that a command declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass, replace
from functools import cache
from typing import NamedTuple, TypeGuard, get_type_hints

from sae_cli.config.data import BenchData, CompositionalData, HfData, InstalledData, StdlibData, SyntheticData, TextData
from sae_cli.config.hook import HookConfig, LogitUpdateHook, ModuleHook
from sae_cli.config.model import ModelConfig
from sae_cli.config.roles import Role, role_of
from sae_cli.config.sae import SAE_SCHEMAS

GROUPS = {
    "model": {"causal_lm": ModelConfig},
    "hook": {"hook": HookConfig, "logit_update": LogitUpdateHook, "module": ModuleHook},
    "data": {
        "stdlib": StdlibData,
        "installed": InstalledData,
        "text": TextData,
        "hf": HfData,
        "synthetic": SyntheticData,
        "synthsaebench16k": BenchData,
        "compositional": CompositionalData,
    },
    "sae": SAE_SCHEMAS,
}


class Declared(NamedTuple):
    """A setting as a schema declares it: dotted key, type, role, and its field."""

    key: str
    hint: object
    role: Role
    field: Field[object]


@cache
def declared_settings(schema: type) -> tuple[Declared, ...]:
    """The settings of a schema and of the groups in it, whichever option is chosen."""
    return tuple(_declared(schema, "", execution=False))


def is_schema(found: object) -> TypeGuard[type]:
    """Whether it is the type of a group."""
    return isinstance(found, type) and is_dataclass(found)


def _declared(schema: type, prefix: str, execution: bool) -> Iterator[Declared]:
    hints = get_type_hints(schema)
    for each in fields(schema):
        role, hint, key = role_of(each), hints[each.name], f"{prefix}{each.name}"
        executed = execution or role.execution
        made = each.default_factory  # a group may have more settings in one command than in the others
        nodes = list(GROUPS[each.name].values()) if each.name in GROUPS else [made if is_schema(made) else hint]
        if is_schema(nodes[0]):
            for node in nodes:
                yield from _declared(node, f"{key}.", executed)
        else:
            yield Declared(key, hint, replace(role, execution=executed), each)
