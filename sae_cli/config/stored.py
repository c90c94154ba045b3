"""The configuration a run was made with, as `config.yaml`: resolved, readable, and readable back.

Groups that have several schemas say which one theirs is, under the key `schema`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from sae_cli.config.commands import PRIMARIES, CommandConfig, TrainConfig
from sae_cli.config.store import GROUPS
from sae_cli.errors import JobError, RequestError

CONFIG_FILE = "config.yaml"
TRAINING_FILE = "training.yaml"
"""In a run that was made of another: how the first one was trained."""
SCHEMA_VERSION = 1


def as_yaml(config: CommandConfig) -> str:
    """The content of `config.yaml`."""
    plain = {"schema_version": SCHEMA_VERSION, **_plain(config)}
    for group, schemas in GROUPS.items():
        if isinstance(plain.get(group), dict):
            names = {schema: name for name, schema in schemas.items()}
            plain[group] = {"schema": names[type(getattr(config, group))], **plain[group]}
    return OmegaConf.to_yaml(OmegaConf.create(plain))


def read_config(directory: Path, command: str, name: str = CONFIG_FILE) -> Any:
    """The typed configuration of this command that the file `name` of a run holds: what the run was made with.

    Raises:
        JobError: the file is missing, is no such configuration, or has another schema version.
    """
    path = directory / name
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise JobError(f"{path}: expected a configuration in YAML, found: {str(error).splitlines()[0]}") from error
    version = plain.pop("schema_version", None) if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise JobError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {version!r}; "
            "read it with the version of sae that wrote it, or make the run again"
        )
    try:
        return _typed(plain, PRIMARIES[command])
    except (OmegaConfBaseException, KeyError, TypeError, AttributeError) as error:
        raise JobError(f"{path}: not a {command} configuration: {str(error).splitlines()[0]}") from error


def trained_with(directory: Path) -> TrainConfig:
    """How the dictionary of a run was trained, be it that run or one that it was made of.

    Raises:
        RequestError: there is no run of a dictionary.
        JobError: its configuration cannot be read.
    """
    name = next((name for name in (TRAINING_FILE, CONFIG_FILE) if (directory / name).is_file()), None)
    if name is None:
        raise RequestError(
            f"{directory}: no run here (no {CONFIG_FILE}); give the run directory that a command printed"
        )
    return read_config(directory, "train", name)


def _typed(plain: Any, schema: type[CommandConfig]) -> Any:
    nodes = {key: value for key, value in plain.items() if key not in GROUPS or value is None}
    for group in GROUPS.keys() & plain.keys() - nodes.keys():
        values = dict(plain[group])
        nodes[group] = OmegaConf.merge(OmegaConf.structured(GROUPS[group][values.pop("schema")]), values)
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), nodes))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.value if isinstance(value, Enum) else value
