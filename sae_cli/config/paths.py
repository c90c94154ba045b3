"""Settings that name places: declared beside the setting, and made absolute, expanded and checked in one place.

A path that is typed means what it means where it is typed: what is stored of it is absolute, so that it means the same
to whoever reads it, wherever they stand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

from omegaconf import MISSING

from sae_cli.config.roles import PathKind, settings_in

Config = TypeVar("Config")

TRUTH = "truth"
"""In place of a run: the known directions of data=synthetic."""


class PathSetting(NamedTuple):
    """A setting that names a place: its dotted key, its kind, and its value."""

    key: str
    kind: PathKind
    value: Any


def path_settings(config: Any, prefix: str = "") -> Iterator[PathSetting]:
    """Those of a configuration that are given."""
    for each in settings_in(config, prefix):
        if each.role.path and each.value is not None and each.value != MISSING:
            yield PathSetting(each.key, each.role.path, each.value)


def with_paths(config: Config, change: Callable[[PathSetting], Any], prefix: str = "") -> Config:
    """The configuration with each of these settings changed; a list is changed one by one."""
    changes: dict[str, Any] = {}
    own = {each.key: each for each in path_settings(config, prefix)}
    for each in fields(config):  # pyright: ignore[reportArgumentType]
        value, key = getattr(config, each.name), f"{prefix}{each.name}"
        if is_dataclass(value):
            new = with_paths(value, change, f"{key}.")
        elif key in own:
            new = _each(own[key], change)
        else:
            continue
        if new != value:
            changes[each.name] = new
    return replace(config, **changes) if changes else config  # pyright: ignore[reportArgumentType]


def with_absolute_paths(config: Config) -> Config:
    """The configuration as it reads from anywhere."""
    return with_paths(config, lambda each: absolute(each.value, each.kind))


def with_expanded_paths(config: Config) -> Config:
    """The configuration with `~` as the home of whoever asks.

    Raises:
        ValueError: a path is empty.
    """
    return with_paths(config, _expanded)


def placed(config: Config, settings: Mapping[str, Any]) -> Config:
    """A stored configuration whose paths are still as they were typed, with those that a manifest has absolute."""
    return with_paths(config, lambda each: _as_recorded(each, settings.get(each.key)))


def is_absolute(path: str) -> bool:
    """Whether a path means the same everywhere."""
    return os.path.isabs(path) or _is_no_path(path)


def absolute(path: str, kind: PathKind = PathKind.named) -> str:
    """A local path made absolute; a hub id, URL or `embedded:` name as it is."""
    if _is_no_path(path) or (kind is PathKind.run_or_truth and path == TRUTH):
        return path
    local = os.path.expanduser(path)
    there = kind is not PathKind.named or local.startswith((".", "/")) or os.path.exists(local)
    return os.path.abspath(local) if there else path


def _is_no_path(path: str) -> bool:
    return "://" in path or path.startswith("embedded:")


def _each(setting: PathSetting, change: Callable[[PathSetting], Any]) -> Any:
    if not isinstance(setting.value, list):
        return change(setting)
    return [change(setting._replace(value=each)) for each in setting.value]


def _expanded(setting: PathSetting) -> Any:
    if not setting.value:
        raise ValueError(f"{setting.key}= is empty: expected a path")
    return os.path.expanduser(setting.value)


def _as_recorded(setting: PathSetting, recorded: Any) -> Any:
    return recorded if isinstance(recorded, str) and not is_absolute(setting.value) else setting.value
