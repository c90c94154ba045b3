"""Experiment runner for sparse autoencoders on language models.

import sae_cli
dictionary = sae_cli.load("runs/train/demo/…")   # encode(x), decode(f), x in raw activation units
card = sae_cli.card("runs/train/demo/…")         # what it belongs to: model, places, text
sae_cli.save("runs/mine", dictionary, card)      # a run directory that every command reads
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sae_cli.dictionaries.card import Card as Card
    from sae_cli.dictionaries.card import Wiring as Wiring
    from sae_cli.dictionaries.files import load as load
    from sae_cli.runs.dictionary_run import card as card
    from sae_cli.runs.dictionary_run import save as save

__all__ = ["Card", "Wiring", "card", "load", "save"]

# Two pools of threads take turns on the same cores, torch's and that of our loops. One that waits in a loop of its own
# takes the other's time: up to half of a training step. To be read by OpenMP when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# numpy's products are small, and made in threads of ours.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_HOMES = {
    "Card": "sae_cli.dictionaries.card",
    "Wiring": "sae_cli.dictionaries.card",
    "card": "sae_cli.runs.dictionary_run",
    "load": "sae_cli.dictionaries.files",
    "save": "sae_cli.runs.dictionary_run",
}


def __getattr__(name: str) -> Any:
    # Late, because importing torch takes seconds and `sae --help` must not.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
