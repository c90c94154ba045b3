"""What a training run saves from time to time, and is resumed from.

    checkpoint/00001200/training.safetensors   trainer, clock, and which batches it has had
    checkpoint/00001200/shuffle.safetensors    the shuffle buffer; one file for all runs of a sweep that share it

The manifest names the last one only, and only once it is on the disk; then the one before is removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from sae_cli.activations.shuffle import ShuffledBatches
from sae_cli.activations.source import Batches, MakeShuffle, SavedBatches
from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.manifest import CHECKPOINTS, Parent, library_versions
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.errors import JobError, is_out_of_memory
from sae_cli.state import State, below, number, of
from sae_cli.terminal import console
from sae_cli.training.trainer import Trainer

_TRAINING, _SHUFFLE = "training.safetensors", "shuffle.safetensors"
_UNFIT = (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError)


@dataclass(frozen=True)
class SavedTraining:
    """Where an earlier attempt at a training run stood.

    Attributes:
        attempt: the run as it left it.
        path: the file.
        step: number of steps done.
        trainer: state of the trainer.
        batches: where it stood in its batches.
        seconds: that all attempts took up to there.
    """

    attempt: UnfinishedRun
    path: Path
    step: int
    trainer: State
    batches: SavedBatches
    seconds: float

    def check(self, parents: Iterable[FinishedRun]) -> None:
        """Refuse to go on from other data or another model than those that the run was begun with.

        Raises:
            JobError: they are others.
        """
        earlier = self.attempt.manifest.parents
        if changed := _difference(earlier, [parent.as_parent() for parent in parents]):
            raise JobError(
                f"{self.attempt.directory}: was begun with {changed}, which has changed or is gone since; restore it, "
                "or begin again with overwrite=true"
            )
        found, before = library_versions(), self.attempt.manifest.versions
        others = [f"{name} {before.get(name)} -> {found[name]}" for name in found if before.get(name) != found[name]]
        if others:
            console.warn(f"resuming with other versions: {', '.join(others)}; the last digits may differ")

    def take_up(self, trainer: Trainer, width: int) -> None:
        """Bring a trainer to where it stood; the stream of its activations is of this width.

        Raises:
            JobError: it was saved by another training than this.
        """
        with _fitting(self.path):
            trainer.restore(self.trainer)
            if (found := {*self.batches.pending.shape[2:]}) - {width}:
                raise ValueError(f"activations of width {found}")


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
        BusyError: another process resumes the run, or has done so since it was read.
        JobError: it is damaged.
    """
    complete = [name for name in checkpoint_files(attempt.manifest.files) if name.endswith(_TRAINING)]
    if not complete:
        return None
    training = complete[-1]
    try:
        state = attempt.read_tensors(training, verify)
    except JobError:
        attempt.check_unchanged()  # whoever resumes it removes its checkpoint after the next one
        raise
    path = attempt.directory / training
    with _fitting(path):
        saved = SavedTraining(
            attempt=attempt,
            path=path,
            step=int(state["trainer.step_number"]),
            trainer=of("trainer", state),
            batches=_batches(attempt, training.replace(_TRAINING, _SHUFFLE), of("batches", state), verify),
            seconds=float(state["clock.seconds"]),
        )
        if saved.step != saved.batches.drawn - len(saved.batches.pending):
            raise ValueError(f"step {saved.step:,} after {saved.batches.drawn:,} batches")
        threads = int(state["clock.threads"])
    if threads != torch.get_num_threads():
        console.warn(f"begun with {threads} threads, found {torch.get_num_threads()}: the last digits may differ")
    return saved


def _batches(attempt: UnfinishedRun, shuffle: str, state: State, verify: bool) -> SavedBatches:
    """Where it stood in its batches; any error where the state is not one of them."""
    drawn, pending = int(state["drawn"]), state["pending"]
    if drawn < 0 or (len(pending) and (pending.dim(), pending.dtype) != (3, torch.float32)):
        raise ValueError(f"{drawn:,} batches drawn, {list(pending.shape)} pending")

    def resume(make: MakeShuffle) -> ShuffledBatches:
        window = attempt.read_tensors(shuffle, verify)
        with _fitting(attempt.directory / shuffle):
            return make({**window, "drawn": state["drawn"]})

    return SavedBatches(attempt=attempt, drawn=drawn, pending=pending, resume=resume)


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """One line where what is in a file cannot be taken up."""
    try:
        yield
    except _UNFIT as error:
        if is_out_of_memory(error):
            raise
        raise damaged(path, "the state of this training", f"{type(error).__name__}: {error}") from error


def _difference(earlier: list[Parent], found: list[Parent]) -> str:
    """The first of these that is not among those, or not as it was."""
    return next((parent.path for parent in [*earlier, *found] if parent not in earlier or parent not in found), "")
