"""Atomic, hashed file writes, and reads that notice damage.

A file appears under its name only when it is complete and on the disk: it is written beside it, fsynced and renamed,
and the folder is fsynced. Who may read it is decided by the umask (or the folder's default ACL), whoever wrote it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from sae_cli.errors import JobError
from sae_cli.escaping import brief

ANOTHER_PLACE = "choose another (runs_dir=)"
"""What to do where a run cannot be written."""

_TEMPORARY = ".tmp"
_PART = 2**22  # bytes that are hashed and written at once: they are in the cache for both


@dataclass(frozen=True)
class FileRecord:
    """What a manifest remembers of a file."""

    bytes: int
    sha256: str


def write_file(path: Path, write: Callable[[Path], object]) -> FileRecord:
    """Write a file whole or not at all.

    Args:
        path: its place; folders that are missing are made.
        write: writes the content to the path that it is given.

    Raises:
        JobError: it cannot be written; what was there before is still there.
    """
    try:
        make_folder(path.parent)
        with _beside(path) as temporary:
            mode = _create(temporary)
            write(temporary)
            return _move(temporary, path, mode)
    except OSError as error:
        raise unwritable(path, error) from error


def write_parts(path: Path, parts: Iterable[bytes | memoryview]) -> FileRecord:
    """Write bytes one part after the other, whole or not at all; their hash is taken on the way, not by reading them
    again.

    Raises:
        JobError: they cannot be written; what was there before is still there.
    """
    try:
        make_folder(path.parent)
        with _beside(path) as temporary:
            _create(temporary)
            found, size = hashlib.sha256(), 0
            with open(temporary, "rb+", buffering=0) as file:
                for part in parts:
                    for start in range(0, len(part), _PART):
                        some = part[start : start + _PART]
                        found.update(some)
                        size += _write_all(file, some)
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
            return FileRecord(size, found.hexdigest())
    except OSError as error:
        raise unwritable(path, error) from error


def _write_all(file: FileIO, content: bytes | memoryview) -> int:
    left = content
    while len(left):
        left = left[file.write(left) or 0 :]
    return len(content)


def write_bytes(path: Path, content: bytes) -> FileRecord:
    """Write these bytes, whole or not at all."""
    return write_file(path, lambda temporary: temporary.write_bytes(content))


def write_json(path: Path, value: object) -> FileRecord:
    """Strict JSON (no NaN), indented, with a final newline."""
    return write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def take_file(source: Path, path: Path) -> FileRecord:
    """Move a file that something else has written to its place; both are on one file system."""
    try:
        with _beside(path) as probe:
            mode = _create(probe)
        return _move(source, path, mode)
    except OSError as error:
        raise unwritable(path, error) from error


def link_file(source: Path, path: Path) -> None:
    """Give a file of ours, which never changes, a second name.

    Raises:
        OSError: the file system cannot do that, or the file is gone.
    """
    make_folder(path.parent)
    with _beside(path) as temporary:
        os.link(source, temporary)
        os.replace(temporary, path)
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, so that they outlast a loss of power."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that was being written."""
    return name.startswith(".") and name.endswith(_TEMPORARY)


def read_bytes(path: Path, record: FileRecord | None, verify: bool) -> bytes:
    """A file's content, checked against its manifest entry: the size always, the hash with `verify`.

    Raises:
        JobError: the file is missing, or is not what was written.
    """
    if record is not None:
        check_size(path, record)
    content = path.read_bytes()
    if record is not None and verify:
        _compare(path, record, hashlib.sha256(content).hexdigest())
    return content


def check_size(path: Path, record: FileRecord) -> None:
    """Compare a file's size with its manifest entry.

    Raises:
        JobError: the file is missing, or is not what was written.
    """
    if not path.is_file():
        raise JobError(f"{path}: the manifest lists this file, but it is missing; make the run again")
    if (found := path.stat().st_size) != record.bytes:
        raise damaged(path, f"{record.bytes} bytes", f"{found} bytes")


def check_hash(path: Path, record: FileRecord) -> None:
    """Compare a file's content with its manifest entry, without holding it in memory.

    Raises:
        JobError: the file is not what was written.
    """
    with open(path, "rb") as file:
        _compare(path, record, hashlib.file_digest(file, "sha256").hexdigest())


def damaged(path: Path, expected: str, found: str) -> JobError:
    """The one line for a file that is not what was written."""
    return JobError(
        f"{path}: damaged file: expected {expected}, found {brief(found)}; "
        "restore it or make the run again (overwrite=true)"
    )


def unwritable(path: Path, error: OSError) -> JobError:
    """The one line for a file that could not be written."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            remedy = "free some space there"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            remedy = f"get write access to that folder, or {ANOTHER_PLACE},"
        case _:
            remedy = "look at the disk and its permissions"
    return JobError(f"{path}: cannot be written: {error.strerror or error}; {remedy} and run the command again")


def check_writable(folder: Path, instead: str) -> None:
    """Refuse a folder in which nothing can be made, before work is done for it.

    Args:
        folder: may be missing; then the nearest one above it that is there counts.
        instead: what else can be done.

    Raises:
        JobError: it cannot be written.
    """
    if (there := unwritable_above(folder)) is not None:
        raise JobError(f"{there}: cannot be written; get write access to that folder, or {instead}")


def unwritable_above(folder: Path) -> Path | None:
    """The folder, or the nearest one above it that is there, if nothing can be made in it."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return None if os.access(there, os.W_OK | os.X_OK) else there


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A temporary name for what becomes `path`; nothing is left there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    try:
        yield temporary
    finally:
        with suppress(OSError):  # mostly because it has been moved
            temporary.unlink()


def _create(path: Path) -> int:
    """Make an empty file; returns the mode that the system gives a new file there (umask, default ACL)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _move(source: Path, path: Path, mode: int) -> FileRecord:
    with open(source, "rb+") as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) != mode:  # safetensors writes for the owner alone
            os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        record = FileRecord(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    os.replace(source, path)
    sync_folder(path.parent)
    return record


def _compare(path: Path, record: FileRecord, found: str) -> None:
    if found != record.sha256:
        raise damaged(path, f"sha256 {record.sha256[:16]}…", f"{found[:16]}…")
