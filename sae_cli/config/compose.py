"""From YAML and overrides to typed configuration: how it is composed, and what is refused.

`hydra.main` launches sweeps and prints configurations; everything else that has to look at one (planning jobs, the
defaults that a run's name is measured against, tab completion, suggestions) composes through here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from sae_cli.config.agreement import check_agreement, out_of_bounds
from sae_cli.config.command import CommandConfig
from sae_cli.config.location import conf_dir
from sae_cli.config.paths import with_expanded_paths
from sae_cli.config.settings import flatten
from sae_cli.config.store import BASE, register
from sae_cli.documents import Document
from sae_cli.errors import RequestError

Config = TypeVar("Config", bound=CommandConfig)

HYDRA_VERSION_BASE = "1.3"


class Composed(NamedTuple):
    """A composed configuration: the command's settings, and Hydra's own node."""

    settings: DictConfig
    hydra: DictConfig


class Composer:
    """Composes the configurations of conf/ and, searched after it, of a folder of the user's own."""

    def __init__(self, config_dir: Path | None = None) -> None:
        if config_dir is not None and not config_dir.is_dir():
            raise RequestError(f"--config-dir {config_dir}: there is no such folder")
        self.config_dir = config_dir
        self._baselines: dict[tuple[str, ...], Document] = {}

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        version.setbase(HYDRA_VERSION_BASE)
        setup_globals()
        register()
        path = create_config_search_path(str(conf_dir()))
        if self.config_dir is not None:
            folder = f"file://{self.config_dir.absolute()}"
            path.prepend("command-line", folder, anchor=SearchPathQuery(provider="schema"))
        return ConfigLoaderImpl(path)

    def compose(self, command: str, overrides: Iterable[str] = ()) -> Composed:
        """The configuration of one job, as `hydra.main` would compose it."""
        settings = self.loader.load_configuration(command, list(overrides), RunMode.RUN)
        hydra = settings.hydra
        with open_dict(settings):
            del settings["hydra"]
        return Composed(settings, hydra)

    def baseline(self, command: str, choices: Iterable[str]) -> Document:
        """The flattened settings of `command` with nothing but these group choices; composed once."""
        choices = tuple(choices)
        if (command, *choices) not in self._baselines:
            self._baselines[command, *choices] = flatten(self.compose(command, choices).settings)
        return self._baselines[command, *choices]

    def groups(self) -> list[str]:
        """The groups of the configuration, Hydra's own left out."""
        return [group for group in self.loader.list_groups("") if group != "hydra"]


def options(names: Iterable[str]) -> list[str]:
    """The group options that a user chooses from: schemas are left out."""
    return sorted(name for name in names if not name.startswith(BASE))


def configured(schema: type[Config], overrides: Iterable[str] = ()) -> Config:
    """The configuration of a command as if it was asked for with these overrides; errors as `typed`.

    Args:
        schema: of the command.
        overrides: as they are typed.
    """
    config = typed(Composer().compose(schema.command, overrides).settings)
    assert isinstance(config, schema)
    return config


def typed(settings: DictConfig) -> CommandConfig:
    """The configuration as dataclasses, complete and free of unknown keys.

    Raises:
        RequestError: a mandatory value is missing, or a value is not valid.
        OmegaConfBaseException: an interpolation cannot be resolved.
    """
    _refuse_missing(settings)
    try:
        config = with_expanded_paths(cast(CommandConfig, OmegaConf.to_object(settings)))
    except ValueError as error:  # from a schema's __post_init__, or an empty path
        raise RequestError(str(error)) from error
    for key, value in flatten(settings).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise RequestError(f"{key}={value}: expected a finite number")
    for complaint in out_of_bounds(config):
        raise RequestError(complaint)
    check_agreement(config)
    return config


def unknown_keys(settings: object, prefix: str = "") -> Iterator[str]:
    """Keys that no schema knows, which Hydra lets in with a `+`."""
    if not isinstance(settings, DictConfig) or settings._is_none() or settings._is_missing():
        return
    schema = OmegaConf.get_type(settings)
    known = {field.name for field in fields(schema)} if schema is not None and is_dataclass(schema) else None
    for key, node in settings.items_ex(resolve=False):
        if known is not None and key not in known:
            yield f"{prefix}{key}"
        else:
            yield from unknown_keys(node, f"{prefix}{key}.")


def _refuse_missing(settings: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(settings))
    if missing:
        names = " and ".join(missing)
        raise RequestError(f"{names} {'is' if len(missing) == 1 else 'are'} missing: give {missing[0]}=…")
