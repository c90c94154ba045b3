"""Showing what a finished run has stored, which may be a stranger's."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.errors import JobError
from sae_cli.escaping import brief
from sae_cli.runs.definitions import VERSIONED, other_version

Arguments = ParamSpec("Arguments")
Shown = TypeVar("Shown")

_NOT_AS_WRITTEN = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def old_definitions(run: FinishedRun) -> str:
    """What to say of a run whose figures are by other definitions than those of this version; else nothing."""
    if run.manifest.command not in VERSIONED:
        return ""
    old = other_version(run.read_json(VERSIONED[run.manifest.command]), run.manifest.command)
    return f"{run.directory}: its figures are by {old}" if old else ""


def shows_stored(show: Callable[Arguments, Shown]) -> Callable[Arguments, Shown]:
    """For a function that shows what finished runs have stored, which may be a stranger's: one line where it does not
    have the form that this command gives it.

    Raises:
        JobError: what is stored has another form.
    """

    @wraps(show)
    def shown(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Shown:
        try:
            return show(*args, **kwargs)
        except _NOT_AS_WRITTEN as error:
            where = next(each.directory for each in args if isinstance(each, FinishedRun))
            raise JobError(
                f"{where}: expected the figures of a finished run, found {type(error).__name__}: {brief(str(error))}; "
                "restore it or make the run again (overwrite=true)"
            ) from error

    return shown
