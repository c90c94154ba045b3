"""`KEY=VALUE` arguments of commands that have a few settings and no configuration."""

from __future__ import annotations

from collections.abc import Sequence

from sae_cli.cli.command import local_path
from sae_cli.errors import RequestError


def settings_of(arguments: Sequence[str], keys: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The arguments that are no settings, and the settings; what exists on disk is none even with a `=` in it.

    Raises:
        RequestError: a key is not one of these, or is given twice.
    """
    plain = [each for each in arguments if "=" not in each or local_path(each).exists()]
    given: dict[str, str] = {}
    for key, _, value in (each.partition("=") for each in arguments if each not in plain):
        if key not in keys:
            from sae_cli.cli.diagnosis import nearest_name

            raise RequestError(f"unknown key {key}{nearest_name(key, keys)}")
        if key in given:
            raise RequestError(f"{key} is given twice: {key}={given[key]} and {key}={value}")
        given[key] = value
    return plain, given
