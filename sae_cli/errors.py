"""Everything that can go wrong on purpose: one class an exit code, one clear line a message.

A message says what, where, what was expected, what was found, and what to do.
"""

from __future__ import annotations


class SaeError(Exception):
    """Base of the errors a user can cause or meet; `exit_code` is the process's exit status."""

    exit_code = 1


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
        super().__init__(message)
        self.exit_code = 128 + signal_number
