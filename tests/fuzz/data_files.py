"""Files of text as people have them, each with what it holds: written here, and known without reading it.

A file is a plain value: it can be written, asked for its documents, and made smaller piece by piece.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import random
import re
import warnings
import zipfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mutations import mutate

JOB, REQUEST = "JobError", "RequestError"


@dataclass(frozen=True)
class Settings:
    """What the reader is told: the field that holds the text, the one that names a domain, if any does, after how many
    characters a file of prose is several documents, and whether each of its lines is one."""

    column: str = "text"
    domain: str = ""
    long: int = 64_000
    lines: bool = False


@dataclass
class Holds:
    """What is in a file.

    Attributes:
        documents: text, and domain where a field names it.
        refused: the errors of which one must come; empty where the file is read.
        passed_over: names of what is no text.
        hidden: names in an archive.
        lacking: records without a field, which is said.
        unknown: nobody knows: the file is damaged.
    """

    documents: list[tuple[str, str]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    passed_over: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    lacking: int = 0
    unknown: bool = False


class File:
    """`kind` is a label for counts, `ending` what its name must end in."""

    kind: str
    ending: str

    def content(self) -> bytes:
        raise NotImplementedError

    def holds(self, settings: Settings, name: str) -> Holds:
        """Args:
        settings: of the reader.
        name: of the file, for what is said of it.
        """
        raise NotImplementedError

    def smaller(self) -> Iterator[File]:
        """Simpler files, of which one may fail as this one does."""
        return iter(())


ENCODINGS = {
    "utf-8": "utf-8",
    "mark": "utf-8-sig",
    "utf-16": "utf-16",
    "utf-16-be": "utf-16-be",
    "utf-32": "utf-32",
    "latin-1": "latin-1",
    "odd utf-16": "utf-16",
    "bare utf-16": "utf-16-le",
}
"""By kind: all but the first three of these announce themselves with a byte order mark."""
_WEIGHTS = (60, 10, 8, 4, 2, 2, 1, 1)
_HALVES = re.compile("[\ud800-\udfff]")
_NO_UTF_8 = {"latin-1", "odd utf-16", "bare utf-16"}


def _encoded(text: str, encoding: str) -> bytes:
    """The text, with a mark where the encoding has one; what is asked for as broken is broken."""
    if encoding == "latin-1":
        return "caf\xe9 ".encode("latin-1") + text.encode("latin-1", "replace")
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    return mark + text.encode(ENCODINGS[encoding]) + (b"x" if encoding == "odd utf-16" else b"")


@dataclass(frozen=True)
class Text(File):
    """A file of prose; its ending may be anything that is not one of records."""

    parts: tuple[str, ...]
    ending: str = ".txt"
    encoding: str = "utf-8"
    ends: str = "\n"

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"text {self.encoding}"

    def content(self) -> bytes:
        return _encoded(self._text(), self.encoding)

    def _text(self) -> str:
        return "".join(self.parts).replace("\n", self.ends)

    def holds(self, settings: Settings, name: str) -> Holds:
        text = self._text()
        if self.encoding == "latin-1" or self.encoding == "odd utf-16":
            return Holds(refused={JOB})
        if (self.encoding == "bare utf-16" and text) or (self.encoding == "utf-8" and "\0" in text[:8192]):
            return Holds(passed_over=[name])
        if settings.lines:
            return Holds([(line, "") for each in text.split("\n") if (line := each.rstrip("\r\n"))])
        return Holds([(piece, "") for piece in _pieces(text.replace("\r\n", "\n").replace("\r", "\n"), settings.long)])

    def smaller(self) -> Iterator[File]:
        yield from (replace(self, parts=parts) for parts in fewer(self.parts))
        if self.encoding != "utf-8":
            yield replace(self, encoding="utf-8")
        if self.ends != "\n":
            yield replace(self, ends="\n")
        if self.ending != ".txt":
            yield replace(self, ending=".txt")


def _pieces(text: str, long: int) -> list[str]:
    """A book is several documents: one ends with the first blank lines after so many characters."""
    pieces = []
    while text:
        blank = next((each for each in re.finditer(r"\n\s*\n", text) if each.end() >= long), None)
        end = blank.end() if blank else len(text)
        pieces.append(text[:end])
        text = text[end:]
    return pieces


_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1"
BINARIES = {
    ".png": _PNG, ".PNG": _PNG, ".jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0", ".pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    ".npy": b"\x93NUMPY\1\0v\0{'descr': '<f8'}", ".bin": bytes(range(256)), ".txt": _PNG, "": b"\x7fELF\2\1\1\0",
    ".tar": b"a.txt" + bytes(600), ".md": gzip.compress(b"compressed, unsaid"), ".docx": b"PK\3\4\x14\0\6\0\x08\0",
}  # fmt: skip


@dataclass(frozen=True)
class Binary(File):
    """What is no text; with an ending of records it is a fault."""

    bytes: bytes
    ending: str
    kind: str = "binary"

    def content(self) -> bytes:
        return self.bytes

    def holds(self, settings: Settings, name: str) -> Holds:
        return Holds(refused={JOB}) if self.ending.lower() in FORMS else Holds(passed_over=[name])


@dataclass(frozen=True)
class Line:
    """In place of a record: what is none."""

    text: str


FORMS = {
    ".jsonl": "lines", ".jsonlines": "lines", ".ndjson": "lines", ".json": "json", ".csv": "table", ".tsv": "table",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
"""How records are written, by the ending in small letters."""
KINDS = {
    "json": (".jsonl", ".jsonlines", ".ndjson", ".json"), "csv": (".csv", ".tsv"), "parquet": (".parquet", ".pq"),
    "text": (".txt",),
}  # fmt: skip
"""The endings that belong together in a data set."""


def is_of_kind(file: File, kind: str) -> bool:
    while isinstance(file, Packed | Damaged | Mislabeled | ShufflePlan):
        file = file.of
    return file.ending.lower() in KINDS[kind]


@dataclass(frozen=True)
class Records(File):
    """A file of records, as JSON or as a table of strings.

    Attributes:
        rows: records, or lines that are none.
        layout: `lines`, and for JSON also `list`, `indented list` and `indented`, one after another.
        final_end: whether the last line has an end.
        ascii: whether JSON escapes what is not.
        twice: a column of a table that it has twice.
    """

    rows: tuple[Any, ...]
    ending: str = ".jsonl"
    encoding: str = "utf-8"
    ends: str = "\n"
    layout: str = "lines"
    final_end: bool = True
    ascii: bool = False
    twice: str = ""

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f"{self.ending.lower()} {self.encoding}"

    @property
    def form(self) -> str:
        return FORMS[self.ending.lower()]

    def content(self) -> bytes:
        text = self._table() if self.form == "table" else self._json()
        return _encoded(text if self.final_end else text.removesuffix(self.ends), self.encoding)

    def _json(self) -> str:
        def written(row: Any) -> str:
            if isinstance(row, Line):
                return row.text
            indent = 1 if "indented" in self.layout else None
            text = json.dumps(row, ensure_ascii=self.ascii, indent=indent)
            return json.dumps(row, indent=indent) if _HALVES.search(text) else text

        if "list" in self.layout:
            return "[" + ",\n".join(map(written, self.rows)).replace("\n", self.ends) + "]" + self.ends
        return "".join(f"{written(row)}\n".replace("\n", self.ends) for row in self.rows)

    def _columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self.rows if isinstance(row, dict) for name in row))

    def _table(self) -> str:
        out = io.StringIO(newline="")
        delimiter = "," if self.ending.lower() == ".csv" else "\t"
        columns = self._columns()
        returns = any("\r" in str(value) for row in self.rows if isinstance(row, dict) for value in row.values())
        quoting = csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL
        writer = csv.writer(out, delimiter=delimiter, lineterminator=self.ends, quoting=quoting)
        if not columns:
            return ""
        doubled = [self.twice] if self.twice in columns else []
        writer.writerow([*columns, *doubled])
        for row in self.rows:
            if isinstance(row, Line):
                out.write(row.text + self.ends)
            else:
                writer.writerow([row.get(name, "") for name in [*columns, *doubled]])
        return out.getvalue()

    def holds(self, settings: Settings, name: str) -> Holds:
        if self.encoding in _NO_UTF_8 and self.content():
            return Holds(refused={JOB, REQUEST})
        rows: Sequence[Any] = self.rows
        if self.form == "table":
            columns = self._columns()
            if self.twice in columns and self.twice in (settings.column, settings.domain):
                return Holds(refused={REQUEST})
            if not columns:
                return Holds()
            rows = [row if isinstance(row, Line) else {name: row.get(name, "") for name in columns} for row in rows]
        return of_records(rows, settings)

    def smaller(self) -> Iterator[File]:
        yield from (replace(self, rows=rows) for rows in fewer(self.rows))
        for number, row in enumerate(self.rows):
            for name in row if isinstance(row, dict) and len(row) > 1 else ():
                less = {each: value for each, value in row.items() if each != name}
                yield replace(self, rows=(*self.rows[:number], less, *self.rows[number + 1 :]))
        plain = Records(())
        for name in ("encoding", "ends", "layout", "final_end", "ascii", "twice"):
            if getattr(self, name) != getattr(plain, name):
                yield replace(self, **{name: getattr(plain, name)})


@dataclass(frozen=True)
class Parquet(File):
    """A table of columns.

    Attributes:
        rows: records.
        ending: in any case.
        types: Arrow types of columns, where they are not the usual ones.
        codec: of its pages.
        group: rows a group.
        wrong: the column whose strings are no UTF-8.
    """

    rows: tuple[dict[str, Any], ...]
    ending: str = ".parquet"
    types: tuple[tuple[str, Any], ...] = ()
    codec: str = "snappy"
    group: int = 1_000
    wrong: str = ""

    @property
    def kind(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return f".parquet {' '.join(str(kind) for _, kind in self.types) or 'usual'}"

    def content(self) -> bytes:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        columns = [self._column(name, [row.get(name) for row in self.rows]) for name in names]
        table = pa.Table.from_arrays(columns, names=names)
        out = io.BytesIO()
        pq.write_table(table, out, compression=self.codec, row_group_size=self.group)
        return out.getvalue()

    def _column(self, name: str, values: list[Any]) -> pa.Array:
        if name == self.wrong:
            return pa.array([b"caf\xe9"] * len(values), pa.binary()).view(pa.string())
        return pa.array(values, dict(self.types).get(name))

    def holds(self, settings: Settings, name: str) -> Holds:
        if self.rows and self.wrong and self.wrong in (settings.column, settings.domain):
            return Holds(refused={JOB})
        columns = dict.fromkeys(name for row in self.rows for name in row)
        return of_records([{name: row.get(name) for name in columns} for row in self.rows], settings)

    def smaller(self) -> Iterator[File]:
        yield from (replace(self, rows=rows) for rows in fewer(self.rows))
        yield from (replace(self, types=types) for types in fewer(self.types))
        for name in dict.fromkeys(name for row in self.rows for name in row):
            less = tuple({key: value for key, value in row.items() if key != name} for row in self.rows)
            if all(less):
                yield replace(self, rows=less)


def of_records(rows: Sequence[Any], settings: Settings) -> Holds:
    """The documents of records: those whose text is neither null nor empty; what is no text is refused."""
    found, there, lacking = Holds(), set(), dict.fromkeys((settings.column, settings.domain or settings.column), 0)
    for row in rows:
        if not isinstance(row, dict):
            if not (isinstance(row, Line) and not row.text.strip()):
                found.refused |= {JOB, REQUEST} if isinstance(row, Line) else {JOB}
            continue
        values = {}
        for name in lacking:
            known, values[name] = _inside(row, name)
            there |= {name} if known else set()
            lacking[name] += not known
        text, domain = values[settings.column], values[settings.domain] if settings.domain else ""
        if text is not None and (not isinstance(text, str) or not isinstance(domain, str | int | float | None)):
            found.refused.add(REQUEST)
        elif text:
            text = _HALVES.sub("\N{REPLACEMENT CHARACTER}", text)
            found.documents.append((text, "" if domain is None else str(domain)))
    if any(number and name not in there for name, number in lacking.items()):
        found.refused.add(REQUEST)
    found.lacking = sum(lacking.values())
    return found


def _inside(row: dict[str, Any], name: str) -> tuple[bool, Any]:
    """Whether a field is there, and its value: what is within null is null."""
    if name in row:
        return True, row[name]
    first, dot, rest = name.partition(".")
    if not dot or first not in row:
        return False, None
    if row[first] is None:
        return True, None
    return _inside(row[first], rest) if isinstance(row[first], dict) else (False, None)


@dataclass(frozen=True)
class Packed(File):
    """A compressed file, in one or more frames."""

    of: File
    by: str
    frames: int = 1
    kind: str = "compressed"

    @property
    def ending(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.ending + self.by

    def content(self) -> bytes:
        plain = self.of.content()
        step = -(-len(plain) // self.frames) or 1
        parts = [plain[start : start + step] for start in range(0, len(plain), step)] or [b""]
        return b"".join(compress(part, self.by.lower()) for part in parts)

    def holds(self, settings: Settings, name: str) -> Holds:
        return self.of.holds(settings, name)

    def smaller(self) -> Iterator[File]:
        yield self.of
        if self.frames > 1:
            yield replace(self, frames=1)
        yield from (replace(self, of=each) for each in self.of.smaller())


def compress(content: bytes, by: str) -> bytes:
    match by:
        case ".gz":
            return gzip.compress(content, mtime=0)
        case ".bz2":
            return bz2.compress(content)
        case ".xz":
            return lzma.compress(content)
        case _:
            return pa.Codec("zstd").compress(content, asbytes=True)


@dataclass(frozen=True)
class Archive(File):
    """A zip archive; of two members of one name the later one holds."""

    members: tuple[tuple[str, File], ...]
    ending: str = ".zip"
    kind: str = ".zip"

    def without(self, unpacked: Collection[str]) -> tuple[Archive, int]:
        """But for members that are read elsewhere; and how many these are, hidden ones left out."""
        visible = {name for name, _ in self.members if not _is_hidden(name)}
        left = tuple((name, file) for name, file in self.members if name not in unpacked or name not in visible)
        return replace(self, members=left), len(visible & set(unpacked))

    def content(self) -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, file in self.members:
                archive.writestr(zipfile.ZipInfo(name), file.content())
        return out.getvalue()

    def holds(self, settings: Settings, name: str) -> Holds:
        whole = Holds()
        for member, file in dict(self.members).items():
            if _is_hidden(member):
                whole.hidden.append(member)
                continue
            if isinstance(file, Packed | Archive):
                whole.passed_over.append(member)
                continue
            held = file.holds(settings, member)
            whole.documents += held.documents
            whole.refused |= held.refused
            whole.passed_over += held.passed_over
            whole.lacking += held.lacking
            whole.unknown |= held.unknown
        return whole

    def smaller(self) -> Iterator[File]:
        yield from (replace(self, members=members) for members in fewer(self.members))
        for number, (name, file) in enumerate(self.members):
            for less in file.smaller():
                yield replace(self, members=(*self.members[:number], (name, less), *self.members[number + 1 :]))


def _is_hidden(member: str) -> bool:
    parts = [part for part in member.split("/") if part not in ("", ".")]
    return not parts or any(part.startswith(".") for part in parts)


@dataclass(frozen=True)
class ShufflePlan(File):
    """A compressed file that ends too early."""

    of: Packed
    cut: int
    kind: str = "cut off"

    @property
    def ending(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.ending

    def content(self) -> bytes:
        whole = self.of.content()
        return whole[: max(1, len(whole) - self.cut)]

    def holds(self, settings: Settings, name: str) -> Holds:
        if self.of.holds(settings, name).passed_over:  # what is no text need not be read to its end
            return Holds(unknown=True)
        return Holds(refused={JOB} if self.of.of.content() else {JOB, REQUEST})

    def smaller(self) -> Iterator[File]:
        yield from (replace(self, of=each) for each in self.of.smaller() if isinstance(each, Packed))
        yield from (replace(self, cut=cut) for cut in {1, self.cut // 2} - {self.cut, 0})


@dataclass(frozen=True)
class Damaged(File):
    """A file to which something has happened."""

    of: File
    seed: int
    kind: str = "damaged"

    @property
    def ending(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.ending

    def content(self) -> bytes:
        return mutate(self.of.content(), random.Random(self.seed))

    def holds(self, settings: Settings, name: str) -> Holds:
        return Holds(unknown=True)

    def smaller(self) -> Iterator[File]:
        yield from (replace(self, of=each) for each in self.of.smaller())


@dataclass(frozen=True)
class Mislabeled(File):
    """A file that is not compressed although its name says so."""

    of: File
    by: str
    kind: str = "not compressed"

    @property
    def ending(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.of.ending + self.by

    def content(self) -> bytes:
        return self.of.content() + b"x"

    def holds(self, settings: Settings, name: str) -> Holds:
        return Holds(refused={JOB})


def fewer(parts: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Without a half of them, then without one."""
    if len(parts) > 3:
        yield parts[: len(parts) // 2]
        yield parts[len(parts) // 2 :]
    for number in range(len(parts)):
        yield parts[:number] + parts[number + 1 :]
