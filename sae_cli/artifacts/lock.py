"""One process a run: a lock file that says who works on it.

On one machine the kernel's lock on the file decides, which ends with the process that holds it. Between machines,
where a file system may not share such locks, a sign of life does: the owner touches the file every few seconds.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from sae_cli.artifacts.files import make_folder, unwritable
from sae_cli.errors import BusyError

LOCK = ".lock"

_SIGN_OF_LIFE = 10.0
_LOOK_AGAIN = 0.2
_PATIENCE, _PATIENCE_UNSIGNED, _LOOK_AGAIN_SOON = 0.1, 3.0, 0.01
"""Seconds: who looks whether a lock is held, and who has it but has not signed yet, can hold it up for a moment."""
_DEAD_AFTER = 90.0
"""Seconds without a sign of life after which the process of another machine counts as dead."""


class Owner(NamedTuple):
    """Who holds a lock: a process, and when it began (UTC)."""

    host: str
    pid: int
    since: str


class RunLock:
    """Held from the moment it is made until `release`, or the end of the process.

    Raises:
        BusyError: another process holds it.
        JobError: it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOCK
        try:
            make_folder(directory)
            self._file = _open_locked(self._path)
            _sign(self._file)
        except OSError as error:
            raise unwritable(self._path, error) from error
        self._released = Event()
        Thread(target=self._live, name="lock", daemon=True).start()

    def release(self) -> None:
        """Let the next process have it; a second call does nothing."""
        if not self._released.is_set():
            self._released.set()
            with suppress(OSError):  # a file that nobody holds is no lock
                self._path.unlink()
            os.close(self._file)

    def _live(self) -> None:
        while not self._released.wait(_SIGN_OF_LIFE):
            with suppress(OSError):
                os.utime(self._path)


def owner_of(directory: Path) -> Owner | None:
    """The living process that works on a run, if there is one."""
    path = directory / LOCK
    owner = _read(path)
    if owner is None:
        return None
    if owner.host == socket.gethostname():
        return owner if _is_locked(path, owner) else None
    return owner if _seconds_since_touched(path) < _DEAD_AFTER else None


def check_free(directory: Path) -> None:
    """Refuse a run that another process works on.

    Raises:
        BusyError: one does.
    """
    owner = owner_of(directory)
    if owner is not None and owner[:2] != (socket.gethostname(), os.getpid()):
        raise _held(directory, owner)


def wait_until_free(directory: Path) -> None:
    """Wait while a process works on a run."""
    while owner_of(directory):
        time.sleep(_LOOK_AGAIN)


def _open_locked(path: Path) -> int:
    """The lock file, opened and locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)  # the umask decides
        try:
            _lock(file, path)
            if _is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its owner had removed it meanwhile


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _sign(file: int) -> None:
    """Write into the lock who holds it; without that it is let go."""
    owner = Owner(socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"))
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(owner._asdict()).encode(), 0)
    except BaseException:
        os.close(file)
        raise


def _lock(file: int, path: Path) -> None:
    try:
        _flock(file, path)
    except BlockingIOError as error:
        raise _held(path.parent, _read(path)) from error
    except OSError:
        check_free(path.parent)  # a file system without such locks: who wrote into the file must do
    owner = _read(path)
    if owner and owner.host != socket.gethostname() and _seconds_since_touched(path) < _DEAD_AFTER:
        raise _held(path.parent, owner)


def _flock(file: int, path: Path) -> None:
    """Lock a file at once, or, while nobody has signed it who could be its owner, soon."""
    began = time.monotonic()
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # by its owner, or by someone who looks whether it has one
            owner = _read(path)
            signed = owner is not None and (owner.host != socket.gethostname() or _is_running(owner.pid))
            if time.monotonic() - began > (_PATIENCE if signed else _PATIENCE_UNSIGNED):
                raise
            time.sleep(_LOOK_AGAIN_SOON)


def _held(directory: Path, owner: Owner | None) -> BusyError:
    who = f"process {owner.pid} on {owner.host} since {owner.since} UTC" if owner else "another process"
    return BusyError(
        f"{directory}: {who} works on this run; wait until it ends (a dead one gives up its lock after "
        f"{_DEAD_AFTER:.0f} s at most), or choose another name="
    )


def _read(path: Path) -> Owner | None:
    try:
        found = json.loads(path.read_bytes()[:4096])
        return Owner(str(found["host"]), int(found["pid"]), str(found["since"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, or not written yet


def _is_locked(path: Path, owner: Owner) -> bool:
    """Whether a process of this machine holds the lock; its id alone may have gone to another one."""
    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return _is_running(owner.pid)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _seconds_since_touched(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")
