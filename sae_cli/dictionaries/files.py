"""Dictionaries on disk: `sae.safetensors`, its tensors in raw activation units, and its header."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from sae_cli.artifacts.run_directory import FinishedRun, Run, read_run
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.batch_topk import BatchTopKDictionary
from sae_cli.dictionaries.gated import GatedDictionary
from sae_cli.dictionaries.jump_relu import JumpReluDictionary
from sae_cli.dictionaries.matryoshka import MatryoshkaDictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.errors import JobError

DICTIONARY_FILE = "sae.safetensors"
SNAPSHOTS = "snapshots/"


ARCHITECTURES: dict[str, type[Dictionary]] = {
    kind.architecture: kind
    for kind in (
        ReluDictionary,
        TopKDictionary,
        BatchTopKDictionary,
        JumpReluDictionary,
        GatedDictionary,
        MatryoshkaDictionary,
    )
}


def architecture_class(architecture: str) -> type[Dictionary]:
    """The class of an architecture by its name in files and configurations."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise JobError(f"unknown dictionary architecture {architecture!r}; this version of sae knows: {known}")
    return ARCHITECTURES[architecture]


def snapshot_file(step: int) -> str:
    """Where a training run keeps the dictionary as it stood after `step` steps; sorts by step."""
    return f"{SNAPSHOTS}step-{step:08d}.safetensors"


def saved_steps(run: FinishedRun) -> list[int]:
    """The steps that the run has snapshots of, ascending."""
    found = (name.removeprefix(f"{SNAPSHOTS}step-") for name in run.manifest.files if name.startswith(SNAPSHOTS))
    return sorted(int(name.removesuffix(".safetensors")) for name in found)


def save_dictionary(
    run: Run,
    dictionary: Dictionary,
    header: Mapping[str, Any],
    extra: Mapping[str, Tensor] | None = None,
    name: str = DICTIONARY_FILE,
) -> None:
    """Write the dictionary into a run.

    Args:
        run: that is being written.
        dictionary: in raw activation units.
        header: where it belongs: hook, layer, model, scale.
        extra: tensors that are not needed to use it.
        name: of the file.
    """
    tensors = {**dictionary.tensors(), **(extra or {})}
    run.write_tensors(name, tensors, {**header, "architecture": dictionary.architecture})


def load_dictionary(run: FinishedRun, verify: bool = True, name: str = DICTIONARY_FILE) -> Dictionary:
    """The dictionary of a finished run, or one of its snapshots by file name."""
    tensors = run.read_tensors(name, verify)
    return architecture_class(run.read_metadata(name)["architecture"])(tensors)


def load(run: str | Path) -> Dictionary:
    """The trained dictionary of a run directory: `load("runs/train/…").encode(x)`.

    Raises:
        sae_cli.errors.RequestError: there is no run there.
        sae_cli.errors.JobError: the run is unfinished, damaged, or holds no dictionary.
    """
    return load_dictionary(read_run(run))
