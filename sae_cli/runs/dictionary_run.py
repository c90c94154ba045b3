"""Runs that hold a dictionary: trained, or made of another one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.paths import PathKind, PathSetting, is_absolute, path_settings, placed
from sae_cli.config.stored import CONFIG_FILE, TRAINING_FILE, parse_config
from sae_cli.errors import JobError, SaeError
from sae_cli.metrics.rare import DensityHistory
from sae_cli.runs.file_names import DENSITY_FILE

PRUNE = "prune-high-freq"

_NEEDED = ("model.path", "data.path")
"""Places without which nothing can be measured."""

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
    return DictionaryRun(run, _trained_with(run))


def _trained_with(run: FinishedRun) -> TrainConfig:
    """How its dictionary was trained, with paths that mean what they meant where that was done."""
    name = CONFIG_FILE if run.manifest.command == "train" else TRAINING_FILE
    config = parse_config(run.directory / name, run.read_bytes(name), "train")
    found: FinishedRun | None = run
    while found and found.manifest.command == PRUNE:  # whose manifest does not say where text and model are
        found = pruned_from(found)
    config = placed(config, found.manifest.settings if found else {})
    if lost := [each for each in path_settings(config) if each.key in _NEEDED and _is_lost(each)]:
        raise JobError(
            f"{run.directory / name}: {lost[0].key}={lost[0].value} is relative to the folder that the training was "
            "begun in, which only the run that this one was made of knows, and that is gone or has changed: restore it"
        )
    return config


def _is_lost(setting: PathSetting) -> bool:
    """Whether a path may mean a place that is not known; what is no place here is taken for a name on the hub."""
    here = setting.kind is PathKind.here or setting.value.startswith(".") or os.path.exists(setting.value)
    return here and not is_absolute(setting.value)


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
