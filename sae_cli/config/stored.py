"""The configuration a run was made with, as `config.yaml`: resolved, readable, and readable back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from sae_cli.config.agreement import out_of_bounds
from sae_cli.config.command import CommandConfig
from sae_cli.config.commands import schema_of
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.groups import GROUPS
from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import with_absolute_paths
from sae_cli.config.plain import INVALID, group_node, plain, plain_group
from sae_cli.config.plain_yaml import MAX_BYTES, parse_yaml
from sae_cli.documents import Document
from sae_cli.errors import JobError, RequestError, denied
from sae_cli.escaping import brief

CONFIG_FILE = "config.yaml"
MANIFEST = "manifest.json"
TRAINING_FILE = "training.yaml"
"""In a run that was made of another: how the first one was trained."""
SCHEMA_VERSION = 1
TRUST_REMOTE_CODE = "SAE_TRUST_REMOTE_CODE"
"""The environment variable that lets a stored configuration run the code that comes with its model."""


def as_yaml(config: CommandConfig) -> str:
    """The content of `config.yaml`: paths are absolute, so that it can be read from anywhere."""
    placed = with_absolute_paths(config)
    content = {"schema_version": SCHEMA_VERSION, **plain(placed)}
    for group in GROUPS:
        if isinstance(content.get(group), dict):
            content[group] = plain_group(group, getattr(placed, group))
    return OmegaConf.to_yaml(OmegaConf.create(content))


def read_config(directory: Path, command: str, name: str = CONFIG_FILE) -> CommandConfig:
    """The typed configuration of this command that the file `name` of a run holds: what the run was made with.

    The file is not compared with the run's manifest; `parse_config` takes content that was.

    Raises:
        JobError: the file is missing, is no such configuration, or has another schema version.
        RequestError: it asks for a model's own code to be run.
    """
    path = directory / name
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise denied(error, path) or JobError(
            f"{path}: expected a configuration in YAML, found: {error.strerror}"
        ) from error
    return parse_config(path, content, command)


def parse_config(path: Path, content: bytes, command: str) -> CommandConfig:
    """The typed configuration of this command that a file holds. Nothing in it is resolved or run.

    Args:
        path: of the file, for messages.
        content: of the file.
        command: whose schema it has.

    Raises:
        JobError: it is no such configuration, or has another schema version.
        RequestError: it asks for a model's own code to be run.
    """
    try:
        found = parse_yaml(content)
    except ValueError as error:
        raise JobError(f"{path}: expected a configuration in YAML, found: {brief(str(error))}") from error
    version = found.pop("schema_version", None) if isinstance(found, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise JobError(
            f"{path}: expected schema version {SCHEMA_VERSION}, found {brief(repr(version))}; "
            "read it with the version of sae that wrote it, or make the run again"
        )
    try:
        config = _typed(found, schema_of(command))
    except INVALID as error:
        raise JobError(f"{path}: not a {command} configuration: {_first_line(error)}") from error
    for complaint in out_of_bounds(config):
        raise JobError(f"{path}: not a {command} configuration: {complaint}")
    refuse_code(path, getattr(config, "model", None))
    return config


def trained_with(directory: Path) -> TrainConfig | None:
    """How the dictionary of a run was trained, be it that run or one that it was made of; None of one from elsewhere.

    Raises:
        RequestError: there is no run of a dictionary.
        JobError: its configuration cannot be read.
    """
    name = next((name for name in (TRAINING_FILE, CONFIG_FILE) if (directory / name).is_file()), None)
    if name is None and (directory / MANIFEST).is_file():
        return None
    if name is None:
        raise RequestError(
            f"{directory}: no run here (no {CONFIG_FILE}); give the run directory that a command printed"
        )
    config = read_config(directory, TrainConfig.command, name)
    assert isinstance(config, TrainConfig)
    return config


def refuse_code(path: Path, model: object) -> None:
    """Whether code is run is not for a file to say: it may be somebody else's."""
    if isinstance(model, ModelConfig) and model.trust_remote_code and os.environ.get(TRUST_REMOTE_CODE) != "1":
        raise RequestError(
            f"{path}: expected a model that needs no code of its own, found model.trust_remote_code=true for "
            f"{model.path}; read that code, and if you trust it set {TRUST_REMOTE_CODE}=1 in the environment"
        )


def _typed(content: dict[str, Any], schema: type[CommandConfig]) -> CommandConfig:
    nodes: Document = {key: value for key, value in content.items() if key not in GROUPS or value is None}
    for group in GROUPS.keys() & content.keys() - nodes.keys():
        nodes[group] = group_node(group, content[group])
    return cast(CommandConfig, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), nodes)))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return brief(lines[0]) if lines else type(error).__name__
