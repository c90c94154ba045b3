"""Everything that can go wrong on purpose: one class an exit code, one clear line a message.

A message says what, where, what was expected, what was found, and what to do.
"""

from __future__ import annotations

import errno

from sae_cli.escaping import visible


class SaeError(Exception):
    """Base of the errors a user can cause or meet; `exit_code` is the process's exit status.

    Args:
        message: one line; what it quotes from files is escaped where it does not print.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class JobError(SaeError):
    """The job failed, or an artifact it needs is damaged or incompatible (exit code 1)."""

    exit_code = 1


class BusyError(JobError):
    """Another process works on the run, or has done so just now (exit code 1)."""


class RequestError(SaeError):
    """The request was wrong: a name, path, key or value that is missing or not valid (exit code 2)."""

    exit_code = 2


class RequirementError(SaeError):
    """A `--require` condition was not met (exit code 3)."""

    exit_code = 3


class Interrupted(BaseException):
    """The job was stopped by a signal; the exit code is 128 + its number (130 SIGINT, 143 SIGTERM).

    It may be raised in the midst of a library, which must not take it for an error of its own.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(visible(message))
        self.exit_code = 128 + signal_number


_NO_MEMORY = (
    "DefaultCPUAllocator",
    "alloc_cpu.cpp",
    "out of memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of any library says that memory could not be had, on the processor or on a GPU."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError | OSError) and any(sign in str(error) for sign in _NO_MEMORY)


_REFUSED = ("(os error 13)", "Permission denied")


def denied(error: BaseException, path: object = None) -> JobError | None:
    """The line for an error that comes from a file which this user may not use; None for any other error.

    Args:
        error: of any library; what it was raised from is looked at too.
        path: what was read, where the error does not name it.
    """
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, PermissionError) or any(sign in str(found) for sign in _REFUSED):
            place = getattr(found, "filename", None) or path or "a file"
            remedy = "ask its owner for access, or run the command as a user who has it"
            return JobError(f"{place}: Permission denied; {remedy}")
        found = found.__cause__ or found.__context__
    return None
