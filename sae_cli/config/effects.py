"""Settings that have no effect beside others: whoever asks for one is told, instead of a run whose name promises it.

Schemas say which these are (`idle`). A setting at its default was not asked for. Those that depend on one schema alone
are refused by that schema.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sae_cli.config.command import CommandConfig
from sae_cli.config.idle import Idle
from sae_cli.config.settings import flatten
from sae_cli.documents import Facts
from sae_cli.errors import RequestError


def refuse_without_effect(config: CommandConfig, baseline: Facts) -> None:
    """Refuse a setting that was asked for and would change nothing.

    Args:
        config: of a command.
        baseline: the flattened settings of the same command with its group choices and nothing else.

    Raises:
        RequestError: there is one.
    """
    for idle in asked_without_effect(config, baseline):
        raise RequestError(f"{idle.shown} has no effect {idle.beside}: {idle.instead}")


def asked_without_effect(config: CommandConfig, baseline: Facts) -> list[Idle]:
    """Those without effect that were asked for: they differ from the baseline."""
    settings = flatten(config)
    found = []
    for idle in config.idle():
        for key in filter(idle.is_of, settings):
            value = settings[key]
            if value != baseline.get(key, _default(config, key)):
                found.append(idle._replace(shown=f"{key}={f'{value:g}' if isinstance(value, float) else value}"))
                break
    return found


def _default(config: CommandConfig, key: str) -> object:
    """Of a setting that the baseline does not have, because its group has no choice there."""
    holder: Any = config
    *groups, name = key.split(".")
    for group in groups:
        holder = getattr(holder, group)
    found = next(each for each in fields(holder) if each.name == name)
    return found.default_factory() if callable(found.default_factory) else found.default
