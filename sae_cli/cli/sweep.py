"""`-m`: every job its own run; all go on when one fails; one table and one exit code at the end."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from sae_cli.artifacts.lock import RunLock
from sae_cli.cli import requirements
from sae_cli.cli.errors import explain
from sae_cli.cli.job import Outcome, SweepJob, read_outcome, run_side_by_side
from sae_cli.cli.launch import launch
from sae_cli.cli.output import write_json, write_lines
from sae_cli.cli.overrides import quoted
from sae_cli.cli.plan import Plan, make_plan, varying
from sae_cli.cli.request import Request
from sae_cli.cli.required_fields import check_fields
from sae_cli.config.store import SHARED_LAUNCHER
from sae_cli.documents import Facts
from sae_cli.errors import JobError, RequirementError, SaeError
from sae_cli.runs.definitions import UNDEFINED
from sae_cli.terminal import console

_OUTCOMES, _HYDRAS = "outcomes-", "multirun.yaml"


def run_sweep(request: Request) -> None:
    """Run all jobs of the request.

    Raises:
        JobError: some of them failed.
        RequirementError: all came to their end, but not all meet the requirements.
    """
    required = [requirements.parse(expression) for expression in request.requirements]
    plan = make_plan(request)
    check_fields(required, request.command, [each.config for each in plan.jobs])
    console.configure(quiet=request.quiet)
    for note in plan.notes:
        console.log(note)
    ended = run_side_by_side(plan.jobs) if plan.launcher == SHARED_LAUNCHER else ()
    with _bookkeeping(plan.sweep_dir) as folder:
        task = SweepJob(plan.jobs, plan.numbers, folder, request.quiet, os.getpid(), ended)
        folder_override = f"hydra.sweep.dir={quoted(str(plan.sweep_dir))}"
        try:
            launch(request, task, [*request.overrides, folder_override, "--multirun"])
        finally:
            outcomes = [read_outcome(folder / f"{number}.json") for number in range(len(plan.jobs))]
            _print_results(plan, outcomes, request.as_json)
    _refuse_failures(plan, [_required_of(outcome, required) for outcome in outcomes])


@contextmanager
def _bookkeeping(sweep_dir: Path) -> Iterator[Path]:
    """A folder for outcomes in Hydra's sweep folder; what launchers leave there (logs) is not removed."""
    _clear_up(sweep_dir.parent)
    ancestry = (sweep_dir.absolute(), *sweep_dir.absolute().parents)
    new = [folder for folder in ancestry if not folder.exists()]
    sweep_dir.mkdir(parents=True, exist_ok=True)
    outcomes = (sweep_dir / f"{_OUTCOMES}{secrets.token_hex(4)}").absolute()
    outcomes.mkdir()
    with ExitStack() as stack:
        stack.callback(_remove, outcomes, new)
        stack.callback(RunLock(outcomes).release)
        yield outcomes


def _clear_up(sweeps: Path) -> None:
    """Remove the bookkeeping of sweeps whose process was killed, or could not remove it."""
    for outcomes in list(sweeps.glob(f"*/{_OUTCOMES}*/")):
        with suppress(JobError):  # that one goes on
            RunLock(outcomes).release()
            _remove(outcomes, [outcomes.parent, sweeps])
    for left in list(sweeps.glob(f"*/{_HYDRAS}")):
        if not list(left.parent.glob(f"{_OUTCOMES}*/")):  # which a sweep that goes on has made before
            _remove(left.parent / _OUTCOMES, [left.parent, sweeps])


def _remove(outcomes: Path, folders: Sequence[Path]) -> None:
    """Remove outcomes and what Hydra has left beside them, and these folders up to the first that is not empty; what
    cannot be removed, the next sweep removes."""
    with suppress(OSError):
        (outcomes.parent / _HYDRAS).unlink(missing_ok=True)
        shutil.rmtree(outcomes, ignore_errors=True)
        for folder in folders:
            folder.rmdir()


def _print_results(plan: Plan, outcomes: Sequence[Outcome], as_json: bool) -> None:
    done = [(job, outcome) for job, outcome in zip(plan.jobs, outcomes, strict=True) if outcome.exit_code == 0]
    figures = list(dict.fromkeys(name for _, outcome in done for name in _figures(outcome)))
    rows = []
    for settings, job, outcome in zip(varying(plan.jobs), plan.jobs, outcomes, strict=True):
        state = "done" if outcome.exit_code == 0 else "failed"
        values = [_shown(_figures(outcome).get(name, "")) for name in figures]
        rows.append((settings, state, *values, outcome.error or str(job.place[0])))
    console.table("sweep", rows, header=("settings", "state", *figures, "run"))
    if as_json:
        write_json([outcome.document for _, outcome in done])
    else:
        write_lines([str(outcome.document["run"]) for _, outcome in done])


def _required_of(outcome: Outcome, required: Sequence[requirements.Requirement]) -> Outcome:
    if outcome.exit_code:
        return outcome
    try:
        requirements.check(required, outcome.document)
    except SaeError as error:
        message, code = explain(error)
        return replace(outcome, exit_code=code, error=message)
    return outcome


def _refuse_failures(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    named = zip(varying(plan.jobs), outcomes, strict=True)
    failed = [(settings, outcome) for settings, outcome in named if outcome.exit_code]
    if not failed:
        return
    which = "; ".join(f"{settings or 'the only one'} ({outcome.error})" for settings, outcome in failed)
    only_requirements = all(outcome.exit_code == RequirementError.exit_code for _, outcome in failed)
    kind = RequirementError if only_requirements else JobError
    raise kind(f"{len(failed)} of {len(outcomes)} jobs failed: {which}")


def _figures(outcome: Outcome) -> Facts:
    figures = outcome.document.get("figures", {})
    assert isinstance(figures, dict)
    return figures


def _shown(value: object) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:.4g}" if isinstance(value, float) else str(value)
