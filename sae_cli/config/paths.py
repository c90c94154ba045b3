"""Settings that name places: declared beside the setting, and made absolute, expanded and checked in one place.

A path that is typed means what it means where it is typed: what is stored of it is absolute, so that it means the same
to whoever reads it, wherever they stand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from omegaconf import MISSING

from sae_cli.config.evaluation import Baseline
from sae_cli.config.roles import PathKind, is_group, role_of, settings_in
from sae_cli.documents import Document, Facts

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

TRUTH = "truth"
"""In place of a run: the known directions of data=synthetic."""
NAMES = (TRUTH, *(each.value for each in Baseline))
"""What stands in place of a run where one is asked for: a folder of that name is `./name`."""


class PathSetting(NamedTuple):
    """A setting that names a place: its dotted key, its kind, and its value."""

    key: str
    kind: PathKind
    value: str


def path_settings(config: DataclassInstance) -> Iterator[PathSetting]:
    """Those of a configuration that are given, each place of a list by itself."""
    for each in settings_in(config):
        if each.role.path and _is_given(each.value):
            for path in each.value if isinstance(each.value, list) else [each.value]:
                yield PathSetting(each.key, each.role.path, str(path))


def with_paths(config: Config, change: Callable[[PathSetting], str], prefix: str = "") -> Config:
    """The configuration with each of these settings changed; a list is changed one by one."""
    changes: Document = {}
    for each in fields(config):
        value, key, kind = getattr(config, each.name), f"{prefix}{each.name}", role_of(each).path
        if is_group(value):
            new = with_paths(value, change, f"{key}.")
        elif kind is None or not _is_given(value):
            continue
        elif isinstance(value, list):
            new = [change(PathSetting(key, kind, path)) for path in value]
        else:
            new = change(PathSetting(key, kind, value))
        if new != value:
            changes[each.name] = new
    return replace(config, **changes) if changes else config


def with_absolute_paths(config: Config) -> Config:
    """The configuration as it reads from anywhere."""
    return with_paths(config, lambda each: absolute(each.value, each.kind))


def with_expanded_paths(config: Config) -> Config:
    """The configuration with `~` as the home of whoever asks.

    Raises:
        ValueError: a path is empty.
    """
    return with_paths(config, _expanded)


def placed(config: Config, settings: Facts) -> Config:
    """A stored configuration whose paths are still as they were typed, with those that a manifest has absolute."""
    return with_paths(config, lambda each: _as_recorded(each, settings.get(each.key)))


def is_absolute(path: str) -> bool:
    """Whether a path means the same everywhere."""
    return os.path.isabs(path) or _is_no_path(path)


def absolute(path: str, kind: PathKind = PathKind.named) -> str:
    """A local path made absolute; a hub id, URL or `embedded:` name as it is."""
    if _is_no_path(path) or (kind is PathKind.run_or_name and path in NAMES):
        return path
    local = os.path.expanduser(path)
    there = kind is not PathKind.named or local.startswith((".", "/")) or os.path.exists(local)
    return os.path.abspath(local) if there else path


def _is_no_path(path: str) -> bool:
    return "://" in path or path.startswith("embedded:")


def _is_given(value: object) -> bool:
    return value is not None and value != MISSING


def _expanded(setting: PathSetting) -> str:
    if not setting.value:
        raise ValueError(f"{setting.key}= is empty: expected a path")
    return os.path.expanduser(setting.value)


def _as_recorded(setting: PathSetting, recorded: object) -> str:
    return recorded if isinstance(recorded, str) and not is_absolute(setting.value) else setting.value
