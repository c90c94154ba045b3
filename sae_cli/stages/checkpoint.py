"""What a training run saves from time to time, and is gone on with from.

    checkpoint/00001200/training.safetensors   trainer, clock, and which batches it has had
    checkpoint/00001200/shuffle.safetensors    the shuffle buffer; one file for all runs of a sweep that share it

The manifest names the last one only, and only once it is on the disk; then the one before is removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from sae_cli import console
from sae_cli.artifacts.manifest import CHECKPOINTS, Parent, library_versions
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.errors import JobError
from sae_cli.stages.activation_source import Batches, SavedBatches
from sae_cli.state import State, below, number, of
from sae_cli.training.trainer import Trainer

_TRAINING, _SHUFFLE = "training.safetensors", "shuffle.safetensors"


@dataclass(frozen=True)
class SavedTraining:
    """Where an earlier attempt at a training run stood.

    Attributes:
        attempt: the run as it left it.
        step: number of steps done.
        trainer: state of the trainer.
        batches: where it stood in its batches.
        seconds: that all attempts took up to there.
    """

    attempt: UnfinishedRun
    step: int
    trainer: State
    batches: SavedBatches
    seconds: float

    def check(self, parents: Iterable[FinishedRun]) -> None:
        """Refuse to go on from other data or another model than those that the run was begun with.

        Raises:
            JobError: they are others.
        """
        begun_with = self.attempt.manifest.parents
        if changed := _difference(begun_with, [parent.as_parent() for parent in parents]):
            raise JobError(
                f"{self.attempt.directory}: was begun with {changed}, which has changed or is gone since; restore it, "
                "or begin again with overwrite=true"
            )
        found, before = library_versions(), self.attempt.manifest.versions
        others = [f"{name} {before.get(name)} -> {found[name]}" for name in found if before.get(name) != found[name]]
        if others:
            console.warn(f"going on with other versions: {', '.join(others)}; the last digits may differ")


def checkpoint_files(names: Iterable[str]) -> list[str]:
    """Those of a run's files that belong to checkpoints."""
    return sorted(name for name in names if name.startswith(f"{CHECKPOINTS}/"))


def save_checkpoint(run: Run, trainer: Trainer, batches: Batches, seconds: float) -> None:
    """Write a checkpoint; the one before goes when this one is on the disk.

    Raises:
        JobError: it cannot be written, or training has gone to infinity; the one before is still there.
    """
    folder = f"{CHECKPOINTS}/{trainer.step_number:08d}"
    before = checkpoint_files(run.manifest.files)
    if f"{folder}/{_TRAINING}" in before:
        return
    trainer.check_finite()
    clock = {"seconds": number(seconds), "threads": number(torch.get_num_threads())}
    batches.save_shuffle(run, f"{folder}/{_SHUFFLE}")
    state = {**below("trainer", trainer.state()), **below("batches", batches.state()), **below("clock", clock)}
    run.write_tensors(f"{folder}/{_TRAINING}", state)
    run.save_progress(without=before)


def read_checkpoint(attempt: UnfinishedRun, verify: bool) -> SavedTraining | None:
    """The checkpoint of an unfinished run, if it came as far as one.

    Raises:
        BusyError: another process goes on with the run, or has done so since it was read.
        JobError: it is damaged.
    """
    complete = [name for name in checkpoint_files(attempt.manifest.files) if name.endswith(_TRAINING)]
    if not complete:
        return None
    training = complete[-1]
    shuffle = training.replace(_TRAINING, _SHUFFLE)
    try:
        state = attempt.read_tensors(training, verify)
    except JobError:
        attempt.check_unchanged()  # whoever goes on with it removes its checkpoint after the next one
        raise
    if (threads := int(state["clock.threads"])) != torch.get_num_threads():
        console.warn(f"begun with {threads} threads, found {torch.get_num_threads()}: the last digits may differ")
    drawn = state["batches.drawn"]
    return SavedTraining(
        attempt=attempt,
        step=int(state["trainer.step_number"]),
        trainer=of("trainer", state),
        batches=SavedBatches(
            attempt=attempt,
            drawn=int(drawn),
            pending=state["batches.pending"],
            shuffle=lambda: {**attempt.read_tensors(shuffle, verify), "drawn": drawn},
        ),
        seconds=float(state["clock.seconds"]),
    )


def _difference(begun_with: list[Parent], found: list[Parent]) -> str:
    """The first of these that is not among those, or not as it was."""
    return next(
        (parent.path for parent in [*begun_with, *found] if parent not in begun_with or parent not in found), ""
    )
