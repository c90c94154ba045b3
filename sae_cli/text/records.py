"""Records of local files, one at a time: JSON (lines, lists, one after another), CSV, TSV, parquet and Arrow.

Files are streamed, whatever their size. What is wrong in one is said with the number of its line, or row.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import pyarrow as pa

from sae_cli.documents import Facts
from sae_cli.errors import JobError, RequestError
from sae_cli.escaping import brief
from sae_cli.text.streams import Source, lines_of, reading, text_of, undecodable

_LONGEST_FIELD = 2**31 - 1
"""Of a CSV file, in characters; Python's own limit is 128 kB."""
_ROWS_AT_ONCE = 256
_ARROW_FILE = b"ARROW1"
_WHITE = " \t\r\n"
_LITERAL = 16
"""A number or word that is cut off is shorter."""


class Record(NamedTuple):
    """A record, and where it stands, for messages."""

    where: str
    values: Facts


Reader = Callable[[Source, Collection[str]], Iterator[Record]]
"""Of a file and the columns that are wanted; others need not be read."""


def json_lines(source: Source, columns: Collection[str] = ()) -> Iterator[Record]:
    """One JSON object a line; empty lines are none. A file that is a list is read as `json_values`."""
    lines = lines_of(source)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if number == 1 and line.lstrip().startswith("["):
            yield from json_values(source, columns)
            return
        where = f"{source.where}, line {number:,}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise JobError(f"{where}: expected a JSON object, found {brief(line.strip(), 40)!r} ({error})") from error
        yield _object(where, value)


def json_values(source: Source, columns: Collection[str] = ()) -> Iterator[Record]:
    """The objects of a JSON list, or objects one after another, on as many lines as they like."""
    for number, value in _Values(source):
        yield _object(f"{source.where}, line {number:,}", value)


def _object(where: str, value: object) -> Record:
    if not isinstance(value, dict):
        raise JobError(f"{where}: expected a JSON object, found {brief(json.dumps(value), 40)}")
    return Record(where, value)


class _Values:
    """The values in a stream of JSON, each with the number of the line that it begins on."""

    def __init__(self, source: Source) -> None:
        self._where, self._pieces = source.where, text_of(source)
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._line = "", 0, 1

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        if self._next() != "[":
            while self._next():
                yield self._line, self._value()
            return
        self._at += 1
        while (found := self._next()) and found != "]":
            yield self._line, self._value()
            if (found := self._next()) == ",":
                self._at += 1
            elif found != "]":
                break
        if found != "]":
            raise self._error(f"expected , or ] in a list, found {repr(found) if found else 'the end of the file'}")
        self._at += 1
        if found := self._next():
            raise self._error(f"expected the end of the file after a list, found {found!r}")

    def _next(self) -> str:
        """The next character that is not white; empty at the end."""
        while True:
            while self._at < len(self._text):
                if (found := self._text[self._at]) not in _WHITE:
                    return found
                self._line += found == "\n"
                self._at += 1
            if not self._more():
                return ""

    def _value(self) -> Any:
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError as error:
                raise self._error("expected a JSON object, found one that is nested too deeply") from error
            except json.JSONDecodeError as error:
                cut_off = error.msg.startswith("Unterminated string") or error.pos + _LITERAL > len(self._text)
                if cut_off and self._more():
                    continue
                self._line += self._text.count("\n", self._at, error.pos)
                raise self._error(
                    f"expected JSON, found {brief(self._text[error.pos :][:40])!r} ({error.msg})"
                ) from error
            except ValueError as error:  # an integer of thousands of digits
                raise self._error(f"expected a JSON object, found one that cannot be read ({error})") from error
            if end == len(self._text) and self._more():
                continue  # a number may go on
            self._line += self._text.count("\n", self._at, end)
            self._at = end
            return value

    def _more(self) -> bool:
        """Read as much again as is held, so that a long value is not begun too often; whether there was any."""
        held, read = self._text[self._at :], 0
        pieces, self._at = [held], 0
        for piece in self._pieces:
            pieces.append(piece)
            read += len(piece)
            if read > len(held):
                break
        self._text = "".join(pieces)
        return read > 0

    def _error(self, message: str) -> JobError:
        return JobError(f"{self._where}, line {self._line:,}: {message}")


def separated_values(delimiter: str) -> Reader:
    """Records of a file whose first line names the columns."""

    def read(source: Source, columns: Collection[str] = ()) -> Iterator[Record]:
        csv.field_size_limit(_LONGEST_FIELD)
        rows = csv.reader(lines_of(source), delimiter=delimiter, strict=True)
        try:
            header = next((row for row in rows if row), [])
            _check_header(source, header, columns)
            begins = rows.line_num + 1
            for row in rows:
                where, begins = f"{source.where}, line {begins:,}", rows.line_num + 1
                if row and len(row) != len(header):
                    raise JobError(f"{where}: expected {len(header)} fields, as in the first line, found {len(row)}")
                if row:
                    yield Record(where, dict(zip(header, row, strict=True)))
        except csv.Error as error:
            raise JobError(
                f"{source.where}, line {rows.line_num:,}: expected fields of a table, found: {error}"
            ) from error

    return read


def _check_header(source: Source, header: Sequence[str], columns: Collection[str]) -> None:
    for name in columns:
        if header.count(name) > 1:
            raise RequestError(f"{source.where}: expected one column {name!r}, found {header.count(name)}")


def parquet(source: Source, columns: Collection[str] = ()) -> Iterator[Record]:
    """The rows of a parquet file; of its columns those that are wanted, or inside of which something is."""
    import pyarrow.parquet as pq

    with reading(source.where, "a parquet file"), source.open() as stream, _seekable(stream) as file:
        table = pq.ParquetFile(file)
        there = table.schema_arrow.names
        wanted = _wanted(source, there, columns)
        if not wanted:  # so that what is there can be named
            if table.metadata.num_rows:
                yield Record(source.where, dict.fromkeys(there))
            return
        paths = [table.schema.column(number).path for number in range(len(table.schema))]
        yield from _rows(source, table.iter_batches(_ROWS_AT_ONCE, columns=_narrowed(wanted, paths, columns)))


def arrow(source: Source, columns: Collection[str] = ()) -> Iterator[Record]:
    """The rows of an Arrow file or stream, as `datasets` and Feather write them; columns as of a parquet file."""
    with reading(source.where, "an Arrow file"), source.open() as stream, _seekable(stream) as file:
        is_file = file.read(len(_ARROW_FILE)) == _ARROW_FILE
        file.seek(0)
        table = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        there = table.schema.names
        wanted = _wanted(source, there, columns) or there
        batches = (table.get_batch(n) for n in range(table.num_record_batches)) if is_file else iter(table)
        yield from _rows(source, (batch.select(wanted) for batch in batches))


def _wanted(source: Source, there: Sequence[str], columns: Collection[str]) -> list[str]:
    """The columns of a table that are named, or inside of which something is."""
    _check_header(source, there, columns)
    return [name for name in there if any(name == each or each.startswith(f"{name}.") for each in columns)]


def _narrowed(wanted: Sequence[str], paths: Sequence[str], columns: Collection[str]) -> list[str]:
    """The same columns, but of a nested one only what is named of it, if it is there: what is beside that may be wrong.

    Args:
        wanted: columns of a parquet file.
        paths: of all that is in its columns.
        columns: what is named.
    """
    inner = [each for each in columns if any(path == each or path.startswith(f"{each}.") for path in paths)]
    return [*inner, *(name for name in wanted if not any(f"{each}.".startswith(f"{name}.") for each in inner))]


def _rows(source: Source, batches: Iterable[pa.RecordBatch]) -> Iterator[Record]:
    number = 0
    for batch in batches:
        for row in _values(batch, source.where, number + 1):
            number += 1
            yield Record(f"{source.where}, row {number:,}", row)


def _values(batch: pa.RecordBatch, where: str, first: int) -> Iterable[dict[str, Any]]:
    """The rows of a batch, which are numbered from `first` on."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError):  # of one of them
        return (_row(batch.slice(at, 1), f"{where}, row {first + at:,}") for at in range(batch.num_rows))


def _row(batch: pa.RecordBatch, where: str) -> dict[str, Any]:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        raise undecodable(where, error) from error
    except (ValueError, OverflowError) as error:  # a date that Python does not know
        kinds = ", ".join(f"{each.name!r} of type {each.type}" for each in batch.schema)
        raise RequestError(f"{where}: expected text, found {kinds} ({error}); set data.column=") from error


def text_lines(source: Source, columns: Collection[str] = ()) -> Iterator[Record]:
    """Each line of a text, in a field `text`, without its end."""
    for number, line in enumerate(lines_of(source), 1):
        yield Record(f"{source.where}, line {number:,}", {"text": line.rstrip("\r\n")})


def _seekable(stream: Any) -> Any:
    """The file itself, or in a temporary file what a compressed one holds."""
    if isinstance(getattr(stream, "raw", None), io.FileIO):
        return stream
    with ExitStack() as closing:
        held = closing.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(stream, held)
        held.seek(0)
        closing.pop_all()  # what reads it closes it
        return held


READERS: dict[str, Reader] = {
    ".jsonl": json_lines,
    ".jsonlines": json_lines,
    ".ndjson": json_lines,
    ".json": json_values,
    ".csv": separated_values(","),
    ".tsv": separated_values("\t"),
    ".parquet": parquet,
    ".pq": parquet,
    ".arrow": arrow,
}
"""By the ending of a file's name, in small letters; what has another ending is plain text."""
