"""Overrides as they were typed: parsed, and checked for what Hydra would let pass or say at length."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException

from sae_cli.config import amounts
from sae_cli.config.commands import schema_of
from sae_cli.errors import RequestError

_HOME = re.compile(r"(?<=[=\[,])~(?=[/,\]]|$)")


def quoted(text: str) -> str:
    """Text as a value of Hydra's grammar that stays as it is, whatever characters are in it."""
    return QuotedString(text.replace("${", "\\${"), Quote.single).with_quotes()


def with_runs(arguments: Sequence[str], command: str) -> list[str]:
    """The arguments of a command with a bare path as `run=PATH`, or `source=PATH`, if it has such a setting."""
    names = [each.name for each in fields(schema_of(command))]
    key = next((key for key in ("run", "source") if key in names), None)
    return [as_run(each, key) if key else each for each in arguments]


def as_run(argument: str, key: str = "run") -> str:
    """An override as it is, a path as `run=PATH`; what exists on disk is a path even with a `=` in it."""
    is_override = "=" in argument or argument.startswith(("~", "+"))
    if Path(argument).exists() or argument.startswith("~/") or not is_override:
        return f"{key}={quoted(argument)}"
    return argument


def at_home(argument: str) -> str:
    """An override with the home directory for the `~` that an unquoted path begins with: Hydra's grammar cannot read
    that, and a shell has put it there in some places and not in others."""
    home = os.path.expanduser("~")
    return argument if set(argument) & set("'\"") else _HOME.sub(lambda _: home, argument)


def in_digits(argument: str, command: str) -> str:
    """An override with amounts in plain digits: `tokens=100000` for `tokens=1e5` or `tokens=100k`, in lists and sweeps
    too, so that a run has one name however its settings are typed.

    Raises:
        RequestError: an amount is no whole number.
    """
    key, equals, value = argument.partition("=")
    if key.lstrip("+") not in amounts.amounts_of(command):
        return argument
    try:
        return key + equals + amounts.in_digits(value)
    except ValueError as error:
        raise RequestError(f"{argument}: {error}") from error


def parse(arguments: Sequence[str], multirun: bool) -> list[Override]:
    """The overrides, each key once.

    Raises:
        RequestError: one cannot be read, a key is given twice, or what is asked for is not possible.
    """
    overrides = [_parse(argument) for argument in arguments]
    given: dict[tuple[str, str | None], str] = {}
    for override in overrides:
        text = override.input_line or ""
        key = (override.key_or_group, override.package)
        if key in given:
            several = "; for one command a run: `xargs -n 1 sae …`" if key[0] == "run" else ""
            raise RequestError(f"{key[0]} is given twice: {given[key]} and {text}{several}")
        given[key] = text
        if override.type is OverrideType.DEL:
            raise RequestError(f"{text}: a setting cannot be removed")
        if override.key_or_group == "hydra.mode":
            raise RequestError(f"{text}: the mode is an option; add -m for a sweep")
        if override.is_sweep_override() and not multirun:
            raise RequestError(f"{text} is a sweep: add -m, or write a list as [a,b]")
    return overrides


def _parse(argument: str) -> Override:
    if "=" not in argument and not argument.startswith("~"):
        raise RequestError(f"{argument}: expected KEY=VALUE")
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        reason = str(error).partition("\n")[0]
        hint = "quote the value if it is text, as in \"key='a, b'\""
        raise RequestError(f"{argument} cannot be read as KEY=VALUE ({reason}); {hint}") from error
