"""Jobs, run as they were planned: one by itself, or those of a sweep by Hydra's launchers.

A single job is configured once, when it is planned, and Hydra has no part in running it. In a sweep Hydra says which
job's turn it is, here or in a worker. Such a job never raises an error that a user can cause, so that the others go on:
it leaves an `Outcome`, a small file, which the parent collects.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from sae_cli.artifacts.files import unwritable
from sae_cli.cli.errors import expected, explain, report
from sae_cli.cli.output import as_document
from sae_cli.cli.plan import PlannedJob
from sae_cli.commands import module_of
from sae_cli.config.store import SHARED_LAUNCHER
from sae_cli.documents import Document
from sae_cli.errors import Interrupted
from sae_cli.jobs.memory import memory_explained
from sae_cli.jobs.result import StageResult
from sae_cli.terminal import console


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job of a sweep ended: `exit_code` 0 and a document, or an error message."""

    exit_code: int
    error: str = ""
    document: Document = field(default_factory=dict)


@dataclass(frozen=True)
class SweepJob:
    """The task of a sweep: can be sent to other processes, where `hydra.job.num` says which job it is.

    Attributes:
        jobs: all of them.
        numbers: see `Plan`.
        outcomes: folder that each job leaves its outcome in.
        quiet: nothing but errors on stderr.
        parent: id of the process that started the sweep.
        ended: how jobs ended that have run already, side by side.
    """

    jobs: tuple[PlannedJob, ...]
    numbers: tuple[int | None, ...]
    outcomes: Path
    quiet: bool
    parent: int
    ended: tuple[StageResult | Exception, ...] = ()

    def __call__(self, _: object) -> None:
        number = self.numbers[HydraConfig.get().job.num]
        if number is None:
            return
        console.configure(quiet=self.quiet, live=os.getpid() == self.parent)
        if not self.ended:
            console.log(f"job {number + 1} of {len(self.jobs)}: {self.jobs[number].place[0]}")
        outcome = Outcome(exit_code=1, error="unexpected error, with a traceback on stderr")
        try:
            outcome = self._attempt(number)
        finally:
            _write(outcome, self.outcomes / f"{number}.json")
        if outcome.exit_code > 128:
            raise SystemExit(outcome.exit_code)  # stopped by a signal: Hydra must not begin the next job

    def _attempt(self, number: int) -> Outcome:
        try:
            result = self.ended[number] if self.ended else run_job(self.jobs[number])
            if isinstance(result, Exception):
                raise result
            return Outcome(exit_code=0, document=as_document(result))
        except (Exception, Interrupted) as error:
            told = expected(error)
            if told is None:
                raise
            message, code = explain(told)
            console.error(message)
            return Outcome(exit_code=code, error=message)


def run_job(job: PlannedJob) -> StageResult:
    """Run one job in this process, as it was planned."""
    module = module_of(job.config.command)
    gc.enable()
    with memory_explained(job.config):
        return module.run(job.config, *job.place)


def run_side_by_side(jobs: Sequence[PlannedJob]) -> tuple[StageResult | Exception, ...]:
    """Run the jobs in this process, those that share a stream together; nothing where the command cannot."""
    module = module_of(jobs[0].config.command)
    if not hasattr(module, "run_together"):
        console.log(f"hydra/launcher={SHARED_LAUNCHER}: jobs of this command run one after another")
        return ()
    gc.enable()
    with memory_explained(*(job.config for job in jobs)):
        return tuple(module.run_together([(job.config, *job.place) for job in jobs]))


def read_outcome(path: Path) -> Outcome:
    """The outcome that a job left, or that it left none."""
    if not path.exists():
        return Outcome(exit_code=1, error="it did not run to its end")
    return Outcome(**json.loads(path.read_text(encoding="utf-8")))


def _write(outcome: Outcome, path: Path) -> None:
    """Leave an outcome. Where that cannot be written it is said here: to Hydra it would be an error of the job."""
    unfinished = path.with_suffix(".part")
    try:
        unfinished.write_text(json.dumps(asdict(outcome), allow_nan=False), encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        report(unwritable(path, error))
