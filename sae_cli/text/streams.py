"""Local files as streams of bytes and of text: decompressed, decoded, and known for what they are."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import pyarrow as pa

from sae_cli.errors import JobError, is_out_of_memory
from sae_cli.escaping import brief

_AT_ONCE = 2**20
_HEAD = 8192
"""Bytes that are looked at to tell text from anything else."""
_BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
"""Byte order marks and what they announce; the longer of two that begin alike first."""
_SIGNATURES = re.compile(
    rb"%PDF-|\x1f\x8b|BZh[1-9](?:1AY&SY|\x17rE8P\x90)|\xfd7zXZ|\x28\xb5\x2f\xfd|PK\x03\x04|7z\xbc\xaf|Rar!\x1a\x07"
)
"""Of files that may begin without a byte which is no text."""
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Source:
    """A file of text or records, which may lie in a compressed one.

    Attributes:
        key: its name below the root; with a `/` and the name inside, where it is one of an archive.
        name: the last part of the name without what says how it is compressed: its ending says what it holds.
        where: it, for messages.
        open: its bytes from the first on; in a `with`.
        unread: why it is not read, where that does not depend on its content.
    """

    key: str
    name: str
    where: str
    open: Callable[[], IO[bytes]]
    unread: str = ""

    @property
    def ending(self) -> str:
        """In small letters."""
        return PurePosixPath(self.name).suffix.lower()


def sources(key: str, file: Path, beside: Container[str] = (), names: Sequence[str] = ()) -> list[Source]:
    """What a file holds: itself, decompressed where its ending says so, or the files of a zip archive.

    Args:
        key: its name below the root, whose ending counts.
        file: where it is.
        beside: the names of all files of the text; what is unpacked among them is not read from its archive again.
        names: all names that this one has below the root.

    Raises:
        JobError: it is no archive though its ending says so.
    """
    name = PurePosixPath(key)
    ending = name.suffix.lower()
    if ending == ".zip":
        return list(_members(key, file, beside, names or [key]))
    if ending in _DECOMPRESSED:
        return [Source(key, name.stem, str(file), partial(_DECOMPRESSED[ending], file))]
    return [Source(key, name.name, str(file), partial(open, file, "rb"))]


def _members(key: str, archive: Path, beside: Container[str], known_as: Sequence[str]) -> Iterator[Source]:
    with reading(str(archive), "a zip archive"), zipfile.ZipFile(archive) as opened:
        names = [each.filename for each in opened.infolist() if not each.filename.endswith("/")]
    latest = {name: number for number, name in enumerate(names)}
    places = [PurePosixPath(each) for each in known_as]
    folders = [folder for each in places for folder in (each.parent, each.with_suffix(""))]
    for number, name in enumerate(names):
        parts, unread = PurePosixPath(name).parts, ""
        if not parts or any(part.startswith(".") for part in parts):
            unread = "hidden files in archives"
        elif latest[name] != number:
            unread = "files in archives that later ones of the same name replace"
        elif any(str(folder / name) in beside for folder in folders):
            unread = "files in archives that are beside them too"
        opening = partial(_open_member, archive, name)
        yield Source(f"{key}/{name}", parts[-1] if parts else "", f"{archive}/{name}", opening, unread)  # type: ignore[arg-type]


def _open_member(archive: Path, name: str) -> io.BufferedReader:
    with zipfile.ZipFile(archive) as opened:  # which stays open for its members
        return io.BufferedReader(opened.open(name))  # type: ignore[arg-type]


def _open_packed(file: Path, compression: str) -> io.BufferedReader:
    # Unlike the usual package for zstandard, this reads all frames, and says so where the last one is cut off.
    return io.BufferedReader(pa.input_stream(open(file, "rb"), compression=compression))  # type: ignore[arg-type]


_DECOMPRESSED: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": partial(gzip.open, mode="rb"),  # type: ignore[dict-item]
    ".bz2": partial(bz2.open, mode="rb"),  # type: ignore[dict-item]
    ".xz": partial(lzma.open, mode="rb"),  # type: ignore[dict-item]
    ".zst": partial(_open_packed, compression="zstd"),
    ".lz4": partial(_open_packed, compression="lz4"),
    ".br": partial(_open_packed, compression="brotli"),
}
COMPRESSED = frozenset({*_DECOMPRESSED, ".zip"})
"""Endings that say how a file is packed, in small letters."""


@contextmanager
def reading(where: str, expected: str) -> Iterator[None]:
    """Within it, whatever goes wrong while a file is read is a `JobError` that says what was expected in it."""
    try:
        yield
    except (*_UNREADABLE, pa.ArrowException) as error:
        if is_out_of_memory(error):
            raise
        found = getattr(error, "strerror", None) or str(error).strip().split("\n", 1)[0] or type(error).__name__
        raise JobError(f"{where}: expected {expected}, found: {brief(found)}") from error


def what_is_no_text(source: Source) -> str:
    """What a file's first bytes are, if not text: empty for text, in whatever encoding."""
    with reading(source.where, "text"), source.open() as file:
        head = file.read(_HEAD)
    if any(head.startswith(each) for each in _BOMS):
        return ""
    if _SIGNATURES.match(head) or b"\0" in head:
        return "binary data"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return "binary data" if _CONTROLS.search(head) else ""
    return ""


def text_of(source: Source) -> Iterator[str]:
    """The text of a file in pieces, every line's end as `\\n`, without a byte order mark.

    Raises:
        JobError: it is no UTF-8 (nor what a byte order mark announces), or cannot be read.
    """
    ends = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in _decoded(source):
        yield ends.decode(piece)
    yield ends.decode("", final=True)


def lines_of(source: Source) -> Iterator[str]:
    """The lines of a file as they are, split at `\\n` only; the first one without a byte order mark.

    Raises:
        JobError: as for `text_of`, with the number of the line.
    """
    with reading(source.where, "lines of text"), source.open() as file:
        encoding, mark = _announced(file.read(4))
    if encoding != "utf-8":
        yield from _split_at_ends(_decoded(source))
        return
    with reading(source.where, "lines of text"), source.open() as file:
        file.read(mark)
        for number, line in enumerate(file, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise undecodable(f"{source.where}, line {number:,}", error) from error
            yield text


def _decoded(source: Source) -> Iterator[str]:
    with reading(source.where, "text"), source.open() as file:
        head = file.read(_AT_ONCE)
        encoding, passed = _announced(head)
        decoder = codecs.getincrementaldecoder(encoding)()
        block, last = head[passed:], not head
        while True:
            waiting = len(decoder.getstate()[0])
            try:
                yield decoder.decode(block, final=last)
            except UnicodeDecodeError as error:
                raise undecodable(source.where, error, passed - waiting) from error
            if last:
                return
            passed += len(block)
            block = file.read(_AT_ONCE)
            last = not block


def _split_at_ends(pieces: Iterator[str]) -> Iterator[str]:
    begun: list[str] = []
    for piece in pieces:
        first, *others = piece.split("\n")
        begun.append(first)
        for other in others:
            yield "".join(begun) + "\n"
            begun = [other]
    if last := "".join(begun):
        yield last


def _announced(head: bytes) -> tuple[str, int]:
    """The encoding that a byte order mark announces, and the mark's length."""
    return next(((name, len(bom)) for bom, name in _BOMS.items() if head.startswith(bom)), ("utf-8", 0))


def undecodable(where: str, error: UnicodeDecodeError, offset: int = 0) -> JobError:
    """The line for bytes that are no text.

    Args:
        where: they are.
        error: of what was decoded.
        offset: of its first byte.
    """
    kind = error.encoding.upper().removesuffix("-LE").removesuffix("-BE")
    place = offset + error.start
    return JobError(f"{where}: expected {kind} text, found byte {error.object[error.start]:#04x} at {place}")
