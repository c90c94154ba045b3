"""Which text was read: the names, sizes and hashes of its files, so that another text at the same place is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sae_cli.documents import Document

WHOLE = 64 << 20
"""A file of up to so many bytes is hashed whole; of a larger one `CHUNKS` pieces, evenly spaced, first and last too."""
CHUNKS, CHUNK = 64, 1 << 20
MOST_HASHED = 256 << 20
"""Bytes of one text that are hashed; files beyond that are known by name and size."""
MOST_LISTED = 1_000
"""Files that a record lists; of more it lists these, chosen by the hash of their names, and one hash of all."""

_SHOWN = 12


class Stamp(NamedTuple):
    """A file: its size, and the sha256 of what was read of it, which is empty for nothing."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class TextRecord:
    """A text as it was when it was read.

    Attributes:
        place: where it was: an absolute path, or the name of a data set.
        version: what its source says of it: the revision and fingerprint of a data set, what a local one is read as,
            the version of Python.
        files: how many files it had.
        bytes: of all of them.
        sha256: of the names and stamps of all of them; empty without files.
        hashed: `whole`, or `samples` where not every byte was hashed.
        keyed: whether the keys of its documents are made of the names of its files.
        listed: the stamps of its files by their names in the text, at most `MOST_LISTED`; empty where there is no need.
    """

    place: str
    version: str = ""
    files: int = 0
    bytes: int = 0
    sha256: str = ""
    hashed: str = "whole"
    keyed: bool = False
    listed: Mapping[str, Stamp] | None = None

    def as_fact(self) -> Document:
        """For the manifest of a run."""
        listed = {name: stamp._asdict() for name, stamp in (self.listed or {}).items()}
        return {**asdict(self), "listed": listed}

    @classmethod
    def of_fact(cls, fact: object) -> TextRecord | None:
        """What a manifest holds; None where it holds no record, as those of earlier versions do."""
        if not isinstance(fact, dict):
            return None
        try:
            listed = {name: Stamp(int(each["bytes"]), str(each["sha256"])) for name, each in fact["listed"].items()}
            return cls(
                place=str(fact["place"]),
                version=str(fact["version"]),
                files=int(fact["files"]),
                bytes=int(fact["bytes"]),
                sha256=str(fact["sha256"]),
                hashed=str(fact["hashed"]),
                keyed=fact["keyed"] is True,
                listed=listed,
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def difference(self, now: TextRecord) -> str:
        """What has changed since, in a few words; nothing if it is the same text, wherever that lies now."""
        if self.version != now.version:
            return f"{self.version or 'unknown'} -> {now.version or 'unknown'}"
        if self.sha256 == now.sha256:
            return ""
        changes = list(_changes(self.listed or {}, now.listed or {}))
        if not changes:
            return f"{self.files:,} files of {self.bytes:,} bytes -> {now.files:,} of {now.bytes:,}, with other content"
        more = f" and {len(changes) - 1:,} more" if len(changes) > 1 else ""
        return changes[0] + more


def record_of_files(
    place: str, files: Mapping[str, Path], version: str = "", keyed: bool = False, listed: bool = True
) -> TextRecord:
    """The record of a text that is made of files.

    Args:
        place: where it is.
        files: by their names in the text.
        version: what its source says of it.
        keyed: see `TextRecord`.
        listed: keep the stamps of single files.

    Raises:
        OSError: one of them cannot be read.
    """
    states = {name: file.stat() for name, file in files.items()}
    key = (place, version, keyed, listed, *((name, _state(state)) for name, state in states.items()))
    if (known := _known.get(key)) is None:
        known = _record(place, files, {name: state.st_size for name, state in states.items()}, version, keyed, listed)
        if time.time_ns() - max((state.st_ctime_ns for state in states.values()), default=0) > _RACY:
            _known.clear()
            _known[key] = known
    return known


_known: dict[tuple[object, ...], TextRecord] = {}
"""The last record, by the state of its files: while that stays as it is, they are not read again."""
_RACY = 2_000_000_000
"""Nanoseconds after which a change shows in a file's times, whatever the file system."""


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _record(
    place: str, files: Mapping[str, Path], sizes: Mapping[str, int], version: str, keyed: bool, listed: bool
) -> TextRecord:
    names = sorted(files, key=_digest)  # so that which files are hashed does not depend on where they lie
    within, left = [], MOST_HASHED
    for name in names:
        left -= _to_read(sizes[name])
        if left >= 0:
            within.append(name)
    with ThreadPoolExecutor() as threads:  # hashing lets other threads run
        hashes = dict(zip(within, threads.map(lambda name: _hash(files[name], sizes[name]), within), strict=True))
    stamps = {printable(name): Stamp(sizes[name], hashes.get(name, "")) for name in names}
    whole = len(within) == len(names) and all(size <= WHOLE for size in sizes.values())
    return TextRecord(
        place=place,
        version=version,
        files=len(names),
        bytes=sum(sizes.values()),
        sha256=_digest(json.dumps(sorted(stamps.items()))),
        hashed="whole" if whole else "samples",
        keyed=keyed,
        listed=dict(islice(stamps.items(), MOST_LISTED)) if listed else {},
    )


def data_set_version(path: str, subset: str, revision: str | None) -> str:
    """The version of a data set on the hub, which is its revision and fingerprint.

    Raises:
        Exception: whatever the library raises where there is no such data set.
    """
    import datasets

    builder = datasets.load_dataset_builder(path, subset or None, revision=revision)
    found: Any = builder.config.data_files or {}
    origins = {str(part) for files in found.values() for origin in files.origin_metadata for part in origin[1:]}
    return f"revision {' '.join(sorted(origins)) or revision or 'main'}, fingerprint {builder.hash}"


class TokensHash:
    """sha256 of rows of tokens as they are read, however they are cut into blocks."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def add(self, tokens: np.ndarray) -> None:
        """Take in rows of token ids, int64 [B, T]."""
        self._sha256.update(tokens.astype("<i8", copy=False).tobytes())

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


def tokens_hash(blocks: Iterable[np.ndarray]) -> str:
    """The `TokensHash` of blocks of rows [B, T]."""
    found = TokensHash()
    for tokens in blocks:
        found.add(tokens)
    return found.hexdigest()


def _changes(before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> Iterable[str]:
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if old is None:
            yield f"{name} is new"
        elif new is None:
            yield f"{name} is gone"
        elif old.bytes != new.bytes:
            yield f"{name}: {old.bytes:,} bytes -> {new.bytes:,}"
        elif old.sha256 != new.sha256:
            yield f"{name}: sha256 {old.sha256[:_SHOWN]}… -> {new.sha256[:_SHOWN]}…"


def printable(name: str) -> str:
    """A file name as it can stand in a manifest, whatever its bytes."""
    return name.encode("utf-8", "surrogateescape").decode(errors="backslashreplace")


def _to_read(size: int) -> int:
    return size if size <= WHOLE else CHUNKS * CHUNK


def _hash(file: Path, size: int) -> str:
    with open(file, "rb") as opened:
        if size <= WHOLE:
            return hashlib.file_digest(opened, "sha256").hexdigest()
        sha256 = hashlib.sha256()
        for number in range(CHUNKS):
            opened.seek((size - CHUNK) * number // (CHUNKS - 1))
            sha256.update(opened.read(CHUNK))
        return sha256.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
