"""What is wrong with a configuration by itself, before a model or a text is looked at.

Bounds are declared beside settings, and each schema says what contradicts itself; here all of it is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sae_cli.config.command import CommandConfig
from sae_cli.config.roles import settings_in
from sae_cli.errors import RequestError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_agreement(config: CommandConfig) -> None:
    """Refuse a command's configuration that contradicts itself.

    Raises:
        RequestError: it does.
    """
    for complaint in config.contradictions():
        raise RequestError(complaint)


def out_of_bounds(config: DataclassInstance) -> Iterator[str]:
    """For every setting outside its bounds, the key, what was expected and what was found."""
    for each in settings_in(config):
        bounds = each.role.bounds
        if bounds is not None and isinstance(each.value, int | float) and each.value not in bounds:
            yield f"{each.key}={each.value}: expected {bounds}"
