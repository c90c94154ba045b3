"""What the hub and its library complain of, as one line each, and requests that are made again after a while.

The library wraps the hub's answer in errors of its own, and what uses the library wraps those once more: the answer is
what a user can do something about, so it is looked for in all that an error was raised from.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple, TypeVar

from sae_cli.errors import JobError, RequestError
from sae_cli.escaping import brief

Answer = TypeVar("Answer")

OFFLINE = "HF_HUB_OFFLINE is set, and it is not in the cache"
_BUSY = (408, 429, 500, 502, 503, 504)
"""Statuses of answers that another try may change."""
_TRIES = 4
_LONGEST_WAIT = 300.0
"""Seconds: the hub counts requests in windows of five minutes."""


class Complaint(NamedTuple):
    """What is wrong with the hub, or with what was asked of it.

    Attributes:
        kind: of the error that says so.
        text: what was expected, what was found, and what to do.
    """

    kind: type[JobError] | type[RequestError]
    text: str

    def about(self, what: str) -> JobError | RequestError:
        """The one line."""
        return self.kind(f"{what}: {self.text}")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Within it, what the library raises is one line that begins with `what` was asked for."""
    try:
        yield
    except (RequestError, JobError):
        raise
    except Exception as error:
        if (found := complaint_of(error)) is None:
            raise
        raise found.about(what) from error


def patiently(ask: Callable[[], Answer]) -> Answer:
    """The answer to a request that changes nothing, asked for again where the hub is busy, after the time that it
    states."""
    for left in range(_TRIES - 1, -1, -1):
        try:
            return ask()
        except OSError as error:
            wait = _wait_of(error, 2.0 ** (_TRIES - 2 - left))
            if wait is None or not left:
                raise
            status = status_of(error)
            logging.getLogger(__name__).warning("the hub is busy (%s): asking again in %.0f s", status, wait)
        time.sleep(wait)
    raise AssertionError("the last try returns or raises")


def refusal_of(error: BaseException) -> Complaint | None:
    """What the hub has answered in place of something that is there, as far as an error comes from that: terms, a
    token, time; None for any other error, and for what is not there."""
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled

    chain = list(_chain(error))
    if any(isinstance(each, GatedRepoError) for each in chain):
        return Complaint(RequestError, "asks for its terms to be accepted on the hub, and for HF_TOKEN")
    if any(isinstance(each, OfflineModeIsEnabled) for each in chain):
        return Complaint(JobError, f"the hub cannot be reached ({OFFLINE}); unset it, or load it once before")
    answer = next((each for each in chain if status_of(each) not in (None, 404)), None)
    return None if answer is None else _of_status(status_of(answer), answer)


def complaint_of(error: BaseException) -> Complaint | None:
    """What an error of the library, or one that was raised from such, complains of; None for any other error."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if (found := refusal_of(error)) is not None:
        return found
    chain = list(_chain(error))
    missing = (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError)
    if found := next((each for each in chain if isinstance(each, missing)), None):
        return Complaint(RequestError, f"expected a repository of the hub, found none ({_first_line(found)})")
    if found := next((each for each in chain if isinstance(each, LocalEntryNotFoundError)), None):
        return Complaint(JobError, f"the hub cannot be reached ({brief(str(found))})")
    if found := next((each for each in chain if isinstance(each, EntryNotFoundError)), None):
        return Complaint(RequestError, f"expected a file of the hub, found none ({_first_line(found)})")
    if found := next((each for each in chain if isinstance(each, (OSError, *_network_errors()))), None):
        return _of_this_machine(found) or _unreachable(_first_line(found))
    return None


def status_of(error: BaseException) -> int | None:
    """The status of the answer that an error is about, if it is about one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _of_status(status: int | None, error: BaseException) -> Complaint:
    from huggingface_hub import get_token

    said = _first_line(error)
    match status:
        case 401:
            whose = "the token in HF_TOKEN may read" if get_token() else "may be read without a token"
            text = (
                f"expected a repository of the hub, found none that {whose} ({said}); correct the name, or set HF_TOKEN"
            )
            return Complaint(RequestError, text)
        case 403:
            whose = "the token in HF_TOKEN" if get_token() else "anybody without a token"
            return Complaint(
                RequestError, f"the hub does not let {whose} do that ({said}); set HF_TOKEN to one that may"
            )
        case 409 | 412:
            return Complaint(JobError, f"somebody else has changed it at the same moment ({said}); try again")
        case 429:
            wait = _retry_after(error)
            when = f"in {wait:.0f} s" if wait else "later"
            return Complaint(JobError, f"the hub asks for fewer requests ({said}); try again {when}, or set HF_TOKEN")
        case _:
            return _unreachable(said)


def _unreachable(said: str) -> Complaint:
    return Complaint(JobError, f"the hub cannot be reached ({said}); try again")


def _of_this_machine(error: BaseException) -> Complaint | None:
    """Of an error that the disk makes, not the network: what the library downloads is written to its cache."""
    if isinstance(error, ConnectionError) or getattr(error, "errno", None) not in _OF_DISKS:
        return None
    assert isinstance(error, OSError)
    where = error.filename or "its cache (HF_HOME)"
    return Complaint(JobError, f"cannot be written to {where}: {error.strerror}; free some space there, or set HF_HOME")


_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised from, and what that was raised from."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _first_line(error: BaseException) -> str:
    """The first line that an error says, in so many words as fit."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return brief((lines or [type(error).__name__])[0].strip().rstrip("."))


def _wait_of(error: OSError, otherwise: float) -> float | None:
    """Seconds after which a request may be made again; None where that is of no use."""
    if status_of(error) not in _BUSY:
        return None
    wait = _retry_after(error)
    wait = otherwise if wait is None else wait
    return wait if wait <= _LONGEST_WAIT else None


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the hub asks to wait, where it says so."""
    said = str(getattr(getattr(error, "response", None), "headers", {}).get("Retry-After", ""))
    return float(said) if said.isdecimal() else None


def _network_errors() -> list[type[Exception]]:
    """What the library lets through of the client that it uses, which depends on its version."""
    return [import_module(name).HTTPError for name in ("httpx", "httpx2") if find_spec(name)]
