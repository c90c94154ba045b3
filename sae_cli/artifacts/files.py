"""Atomic, hashed file writes, and reads that notice damage.

A file appears under its name only when it is complete: it is written beside it, fsynced and renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sae_cli.errors import JobError
from sae_cli.escaping import brief


@dataclass(frozen=True)
class FileRecord:
    """What a manifest remembers of a file."""

    bytes: int
    sha256: str


def write_bytes(path: Path, content: bytes) -> FileRecord:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return FileRecord(len(content), hashlib.sha256(content).hexdigest())


def take_file(source: Path, path: Path) -> FileRecord:
    """Move a file that something else has written to its place; both are on one file system."""
    with open(source, "rb+") as file:
        os.fsync(file.fileno())
        record = FileRecord(source.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())
    os.replace(source, path)
    _sync_folder(path.parent)
    return record


def write_json(path: Path, value: Any) -> FileRecord:
    """Strict JSON (no NaN), indented, with a final newline."""
    return write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


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


def _compare(path: Path, record: FileRecord, found: str) -> None:
    if found != record.sha256:
        raise damaged(path, f"sha256 {record.sha256[:16]}…", f"{found[:16]}…")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
