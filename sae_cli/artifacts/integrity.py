"""Whether the files of a run are what its manifest says; looked at without holding them in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sae_cli.artifacts.files import FileRecord, is_temporary
from sae_cli.artifacts.lock import LOCK, owner_of
from sae_cli.artifacts.manifest import CHECKPOINTS, MANIFEST
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.safetensors_header import parse_header
from sae_cli.artifacts.survey import REPORT, FoundRun
from sae_cli.errors import JobError

_PIECE = 1 << 20
_LOGS = ".jsonl"


class Damage(NamedTuple):
    """What is wrong with a file.

    Attributes:
        kind: `missing`, `truncated`, `longer`, `changed`, `unreadable`, `header` or `outside`.
        message: what was expected, and what was found.
    """

    kind: str
    message: str


def file_damage(found: FoundRun, name: str, record: FileRecord, advance: Callable[[int], object]) -> Damage | None:
    """What is wrong with a file that the manifest lists, if anything.

    Args:
        found: the run.
        name: of the file.
        record: what the manifest says of it.
        advance: told of every piece that has been read; may raise to stop.
    """
    try:
        path = inside(found.directory, name)
    except JobError:
        return Damage("outside", "expected a file in the run directory, found a name or a link that leaves it")
    try:
        if not path.is_file():
            return Damage("missing", f"expected {record.bytes:,} bytes, found no file")
        size = path.stat().st_size
        if size < record.bytes:
            return Damage("truncated", f"expected {record.bytes:,} bytes, found {size:,}")
        if size > record.bytes and not _grows(found, name):
            return Damage("longer", f"expected {record.bytes:,} bytes, found {size:,}")
        if (digest := _digest(path, record.bytes, advance)) != record.sha256:
            return Damage("changed", f"expected sha256 {record.sha256[:16]}…, found {digest[:16]}…")
        return _header_damage(path) if path.suffix == ".safetensors" else None
    except FileNotFoundError:
        return Damage("missing", f"expected {record.bytes:,} bytes, found no file")
    except OSError as error:
        return Damage("unreadable", f"cannot be read: {error.strerror or error}")


def unlisted_files(found: FoundRun) -> Iterator[tuple[str, str]]:
    """The files in a run directory that its manifest does not list, each with a word on what it is.

    Runs inside it (evaluations, feature pages) and folders that a living process works in are left out.
    """
    listed = {MANIFEST, REPORT, *(found.manifest.files if found.manifest else ())}
    for folder, subfolders, files in os.walk(found.directory):
        inner = Path(folder)
        if inner != found.directory and (MANIFEST in files or owner_of(inner)):
            subfolders.clear()
            continue
        subfolders.sort()
        for name in sorted(files):
            relative = (inner / name).relative_to(found.directory).as_posix()
            if relative not in listed:
                yield relative, _what_it_is(found, PurePosixPath(relative))


def _what_it_is(found: FoundRun, name: PurePosixPath) -> str:
    if name.name == LOCK:
        return "the lock of a process that has ended: can be deleted"
    if is_temporary(name.name) or any(part.startswith(".model-") for part in name.parts):
        return "left by a process that was stopped while it wrote: can be deleted"
    if name.parts[0] == CHECKPOINTS:
        return "of a checkpoint that was not completed, or is not needed any more: can be deleted"
    if found.status != "complete":
        return "written after the last save: goes when the run is resumed, can be deleted"
    return "not of this run, or left by an earlier attempt: can be deleted if it is not yours"


def _grows(found: FoundRun, name: str) -> bool:
    """Whether a file is a log, of which the manifest of an unfinished run knows the beginning."""
    return found.status != "complete" and name.endswith(_LOGS)


def _digest(path: Path, n_bytes: int, advance: Callable[[int], object]) -> str:
    """sha256 of the first bytes of a file."""
    digest, left = hashlib.sha256(), n_bytes
    with open(path, "rb") as file:
        while left and (piece := file.read(min(left, _PIECE))):
            digest.update(piece)
            left -= len(piece)
            advance(len(piece))
    return digest.hexdigest()


def _header_damage(path: Path) -> Damage | None:
    try:
        parse_header(path)
    except ValueError as error:
        return Damage("header", f"expected a safetensors file, found: {error}")
    return None
