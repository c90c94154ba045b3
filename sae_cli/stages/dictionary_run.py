"""Runs that hold a dictionary: trained, or made of another one."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.config.commands import TrainConfig
from sae_cli.config.stored import CONFIG_FILE, TRAINING_FILE, parse_config
from sae_cli.errors import SaeError
from sae_cli.metrics.rare import DensityHistory
from sae_cli.stages.file_names import DENSITY_FILE

"""In a training run: how often each feature fired, in windows of training."""

PRUNE = "prune-high-freq"

_DENSITY = {
    "count": "I64 W F",
    "tokens": "I64 W",
    "step": "I64 W",
    "exempt": "BOOL F",
    "resample_step": "I64 R",
    "resampled": "BOOL R F",
}


class DictionaryRun(NamedTuple):
    """A run with a dictionary, and how that was trained, which says what it belongs to: model, hook, layer, text."""

    run: FinishedRun
    trained_with: TrainConfig

    def origin(self) -> FinishedRun:
        """The training run that a pruned one comes from, as far as that can be followed."""
        found = self.run
        while parent := pruned_from(found):
            found = parent
        return found


def read_dictionary_run(path: str | Path) -> DictionaryRun:
    """The dictionary's run.

    Raises:
        RequestError: there is no such run, or it holds no dictionary.
        JobError: it is unfinished or damaged.
    """
    run = read_run(path, "train", PRUNE)
    name = CONFIG_FILE if run.manifest.command == "train" else TRAINING_FILE
    return DictionaryRun(run, parse_config(run.directory / name, run.read_bytes(name), "train"))


def read_density(run: FinishedRun, verify: bool = True) -> DensityHistory:
    """How often each feature fired in the training of a run that has a `DENSITY_FILE`.

    Raises:
        JobError: the file is damaged, or holds something else.
    """
    run.expect(DENSITY_FILE, _DENSITY)
    return DensityHistory(**run.read_tensors(DENSITY_FILE, verify))


def pruned_from(run: FinishedRun) -> FinishedRun | None:
    """The run that this one was made of, if it was and that one is still there as it was."""
    if run.manifest.command != PRUNE or not run.manifest.parents:
        return None
    parent = run.manifest.parents[0]
    try:
        found = read_run(parent.path)
    except SaeError:
        return None
    return found if found.as_parent() == parent else None
