"""The schemas of the commands, one file each: what a command takes, and what it says of itself.

A file is found by the name of its command: `prune-high-freq` in `prune_high_freq.py`, `import`, which is a word of
Python's, in `import_.py`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from keyword import iskeyword
from pkgutil import iter_modules

from sae_cli.config.command import CommandConfig


@cache
def command_names() -> tuple[str, ...]:
    """The commands that have a schema."""
    return tuple(sorted(module.name.rstrip("_").replace("_", "-") for module in iter_modules(__path__)))


def module_name(command: str) -> str:
    """What the modules of a command are called."""
    return f"{command}_" if iskeyword(command) else command.replace("-", "_")


@cache
def schema_of(command: str) -> type[CommandConfig]:
    """The schema of a command."""
    module = import_module(f"{__name__}.{module_name(command)}")
    return next(
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, CommandConfig) and vars(each).get("command") == command
    )
