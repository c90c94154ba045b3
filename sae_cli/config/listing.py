"""What a command may be given, as its help lists it: groups with their options, settings with their defaults.

Read from the files of conf/ and the command's schema without Hydra, so that help is quick.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import omegaconf
import yaml

from sae_cli.config.command import CommandConfig
from sae_cli.config.commands import schema_of
from sae_cli.config.location import ADDED_GROUPS, conf_dir, option_files, runs_folder

_RUNS_FOLDER = "${runs_folder:}"  # what conf/ says for the folder that SAE_RUNS or its default names


class Group(NamedTuple):
    """A group of the configuration.

    Attributes:
        name: of the group.
        options: what may be chosen.
        default: what is chosen where nothing is said; None for nothing.
    """

    name: str
    options: list[str]
    default: str | None


def added_groups_of(command: str, config_dir: Path | None = None) -> list[Group]:
    """The groups whose options are added to a command, with a +."""
    return [Group(name, option_files(name, config_dir), None) for name in ADDED_GROUPS.get(command, ())]


class Settings(NamedTuple):
    """The top-level settings of a command.

    Attributes:
        needed: those that have to be given.
        defaults: `key=value` for the others.
        nodes: those that have settings of their own.
    """

    needed: list[str]
    defaults: list[str]
    nodes: list[str]


def groups_of(command: str, config_dir: Path | None = None) -> list[Group]:
    """The groups that a command chooses from, in the order of its file; `config_dir` holds options of the user's."""
    chosen = [each for each in _primary(command).get("defaults", ()) if isinstance(each, dict)]
    return [
        Group(name, options, default)
        for each in chosen
        for name, default in each.items()
        if (options := option_files(name, config_dir))
    ]


def settings_of(command: str) -> Settings:
    """The settings at the top of a command that are no groups: its own, then those of every command."""
    given, listed = _primary(command), Settings([], [], [])
    common = {each.name for each in fields(CommandConfig)}
    for each in sorted(fields(schema_of(command)), key=lambda each: each.name in common):
        value = given.get(each.name, _default(each))
        if option_files(each.name):
            continue
        if is_dataclass(value):
            listed.nodes.append(each.name)
        elif value == omegaconf.MISSING:
            listed.needed.append(each.name)
        else:
            listed.defaults.append(f"{each.name}={_typed(runs_folder() if value == _RUNS_FOLDER else value)}")
    return listed


def _primary(command: str) -> dict[str, Any]:
    return yaml.safe_load((conf_dir() / f"{command}.yaml").read_text(encoding="utf-8"))


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _typed(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, Enum):
        return value.name
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else str(value)
