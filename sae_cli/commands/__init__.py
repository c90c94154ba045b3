"""What the commands do, one file each, found by the command's name: `prune-high-freq` in `prune_high_freq.py`."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from sae_cli.config.commands import module_name


def module_of(command: str) -> ModuleType:
    """The module whose `run` does the work of a command; imported when work starts, because that takes a while."""
    return import_module(f"{__name__}.{module_name(command)}")
