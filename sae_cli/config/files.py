"""YAML files as Hydra reads them, with amounts (`tokens: 1e5`, `dict_size: 2k`) as on the command line."""

from __future__ import annotations

from functools import cache
from typing import Any

from hydra._internal.core_plugins import file_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, ListConfig

from sae_cli.config.amounts import amounts_of, in_digits, whole_number
from sae_cli.config.commands import command_names
from sae_cli.errors import RequestError

_SWEPT = "hydra.sweeper.params."
"""Below it, a file has the values of a sweep in the grammar of overrides."""
_GLOBAL, _GROUP = "_global_", "_group_"


class FileConfigSource(file_config_source.FileConfigSource):
    """Takes the place of Hydra's own, which is known by this name."""

    def load_config(self, config_path: str) -> ConfigResult:
        """A file's content.

        Raises:
            RequestError: an amount in it is no whole number.
        """
        found = super().load_config(config_path)
        group = config_path.rpartition("/")[0].replace("/", ".")
        package = (found.header.get("package") or _GROUP).replace(_GROUP, group)
        try:
            _rewrite(found.config, "" if package in ("", _GLOBAL) else f"{package}.")
        except ValueError as error:
            raise RequestError(f"{self.path}/{self._normalize_file_name(config_path)}: {error}") from error
        return found


def read_amounts_in_files() -> None:
    """Let Hydra read files by this module."""
    Plugins.instance()  # which registers Hydra's own
    SourcesRegistry.instance().types[FileConfigSource.scheme()] = FileConfigSource


def _rewrite(node: Any, prefix: str) -> None:
    """Put whole numbers in the place of amounts, in place."""
    if not isinstance(node, DictConfig) or node._is_none():
        return
    for key in list(node):
        name, child = f"{prefix}{key}", node._get_node(key)
        if isinstance(child, DictConfig):
            _rewrite(child, f"{name}.")
        elif name.removeprefix(_SWEPT) in _all_amounts():
            node[key] = _changed(child, name)


def _changed(node: Any, name: str) -> Any:
    if isinstance(node, ListConfig):
        return [_changed(each, name) for each in node._iter_ex(resolve=False)]
    value = node._value() if hasattr(node, "_value") else node
    if not isinstance(value, str | float) or isinstance(value, bool):
        return value
    try:
        return in_digits(str(value)) if name.startswith(_SWEPT) else _number(whole_number(str(value)))
    except ValueError as error:
        raise ValueError(f"{name}={value}: {error}") from error


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("+-").isdecimal() else text


@cache
def _all_amounts() -> frozenset[str]:
    return frozenset().union(*map(amounts_of, command_names()))
