"""The one table from errors to a line on stderr and an exit code."""

from __future__ import annotations

import traceback
from types import TracebackType

import typer

from sae_cli.errors import Interrupted, JobError, SaeError, denied

EXPECTED = (SaeError, Interrupted, OSError, typer.TyperException, typer.Abort)
"""What a user can cause or meet; everything else is a bug and shows its traceback."""


def explain(error: BaseException) -> tuple[str, int]:
    """The message of an expected error and the exit code that goes with it."""
    match error:
        case SaeError() | Interrupted():
            return str(error), error.exit_code
        case typer.TyperException():
            return error.format_message(), error.exit_code
        case typer.Abort():
            return "aborted", 1
        case PermissionError():
            return str(denied(error)), 1
        case OSError(strerror=str(reason), filename=name) if name is not None:
            return f"{reason}: {name}", 1
        case _:
            return " ".join(str(error).split()) or type(error).__name__, 1


def expected(error: BaseException) -> BaseException | None:
    """What to tell the user of an error; None for a bug.

    It is the signal that the error came after, if there was one, because a library that is stopped in the middle may
    fail while it tidies up; but what a command itself says of a failure (a `JobError`) stands.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, Interrupted | JobError):
        found = found.__cause__ or found.__context__
    if isinstance(found, Interrupted):
        return found
    return error if isinstance(error, EXPECTED) else None


def report(error: BaseException) -> int:
    """Show an expected error; returns the exit code."""
    from sae_cli.terminal import console

    message, code = explain(error)
    console.error(message)
    return code


def report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """`sys.excepthook`: a line that says that this is not the user's fault, and the traceback."""
    from sae_cli.terminal import console

    console.error(f"unexpected {kind.__name__}: {error} (a bug in sae; the traceback follows)")
    traceback.print_exception(kind, error, trace)
