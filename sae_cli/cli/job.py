"""What Hydra runs: one job, in this process or in a worker of a launcher.

A job never raises an error that a user can cause: in a sweep the others go on. It leaves an `Outcome`,
in memory for a single job and as a small file for each job of a sweep, which the parent collects.
"""

from __future__ import annotations

import gc
import json
import os
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from sae_cli import console
from sae_cli.cli.errors import EXPECTED, explain
from sae_cli.cli.output import as_document
from sae_cli.cli.plan import Place
from sae_cli.config.compose import typed
from sae_cli.stages.result import StageResult


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a job of a sweep ended: `exit_code` 0 and a document, or an error message."""

    exit_code: int
    error: str = ""
    document: dict[str, Any] = field(default_factory=dict)


@dataclass
class SingleJob:
    """The task of a single run; keeps its result, or the error that it ended with."""

    stage: str
    place: Place
    result: StageResult | None = None
    error: Exception | None = None

    def __call__(self, settings: Any) -> None:
        try:
            self.result = _run(self.stage, settings, self.place)
        except EXPECTED as error:  # raised again by the caller: Hydra would add lines of its own
            self.error = error


@dataclass(frozen=True)
class SweepJob:
    """The task of a sweep: can be sent to other processes, where `hydra.job.num` says which job it is."""

    stage: str
    places: tuple[Place, ...]
    outcomes: Path
    quiet: bool
    parent: int

    def __call__(self, settings: Any) -> None:
        number = HydraConfig.get().job.num
        console.configure(quiet=self.quiet, live=os.getpid() == self.parent)
        console.log(f"job {number + 1} of {len(self.places)}: {self.places[number][0]}")
        outcome = Outcome(exit_code=1, error="unexpected error, with a traceback on stderr")
        try:
            outcome = self._attempt(settings, self.places[number])
        finally:
            _write(outcome, self.outcomes / f"{number}.json")
        if outcome.exit_code > 128:
            raise SystemExit(outcome.exit_code)  # stopped by a signal: Hydra must not begin the next job

    def _attempt(self, settings: Any, place: Place) -> Outcome:
        try:
            return Outcome(exit_code=0, document=as_document(_run(self.stage, settings, place)))
        except EXPECTED as error:
            message, code = explain(error)
            console.error(message)
            return Outcome(exit_code=code, error=message)


def read_outcome(path: Path) -> Outcome:
    """The outcome that a job left, or that it left none."""
    if not path.exists():
        return Outcome(exit_code=1, error="it did not run to its end")
    return Outcome(**json.loads(path.read_text(encoding="utf-8")))


def _run(stage: str, settings: Any, place: Place) -> StageResult:
    gc.enable()
    return import_module(stage).run(typed(settings), *place)


def _write(outcome: Outcome, path: Path) -> None:
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(outcome), allow_nan=False), encoding="utf-8")
    unfinished.replace(path)
