"""Experiment runner for sparse autoencoders on language models.

import sae_cli
dictionary = sae_cli.load("runs/train/demo/…")   # encode(x), decode(f), x in raw activation units
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_cli.dictionaries.files import load as load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Late, because importing torch takes seconds and `sae --help` must not.
    if name == "load":
        return import_module("sae_cli.dictionaries.files").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
