"""What a record holds, as a document: text. Everything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sae_cli import console
from sae_cli.data.documents import Document
from sae_cli.data.records import Record
from sae_cli.errors import RequestError
from sae_cli.escaping import brief

_LOOKED_AT = 10_000
"""Records without a field after which it is taken to be missing from the file."""
_ABSENT = object()


def plain_text(value: Any, what: str) -> str:
    """A string as it is, but that half a surrogate pair, which is no character, is U+FFFD.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, str):
        raise RequestError(f"{what}: expected text, found {_described(value)}{_advice(value)}")
    return value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True)
class RecordFormat:
    """How records become documents.

    Attributes:
        column: the field that holds the text; `a.b` looks inside a nested one.
        domain: the field that names the domain; empty for none.
    """

    column: str
    domain: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.column, self.domain) if self.domain else (self.column,)

    def documents(
        self, name: str, where: str, records: Iterable[tuple[int, Record]], domain: str, wanted: Callable[[str], bool]
    ) -> Iterator[Document]:
        """The documents of a file; records whose text is null or empty are none.

        Args:
            name: of the file in the keys of its documents, which end in their number in the file.
            where: it, for messages.
            records: all of them, with their numbers.
            domain: of its documents, where no field names it.
            wanted: says of a key whether the document is.

        Raises:
            RequestError: the file lacks a field, or the field holds no text.
        """
        text, of_domain = _Field(self.column, "data.column", where), _Field(self.domain, "data.domain", where)
        for index, record in records:
            value = text.of(record)
            named = of_domain.of(record) if self.domain else domain
            if value is None:
                continue
            # What is no text is refused whether it is wanted or not: not in training only, or in evaluation.
            found, of_it = (
                plain_text(value, f"{record.where}: field {self.column!r}"),
                _domain(named, record, self.domain),
            )
            if found and wanted(key := f"{name}:{index}"):
                yield Document(key, found, of_it)
        text.end()
        of_domain.end()


class _Field:
    """A field of the records of one file, which some of them may lack but not all."""

    def __init__(self, name: str, setting: str, where: str) -> None:
        self._name, self._setting, self._where = name, setting, where
        self._there, self._lacking, self._first = False, 0, Record("", {})

    def of(self, record: Record) -> Any:
        """Its value; None where it is missing, or within what is null."""
        value = _inside(record.values, self._name)
        if value is not _ABSENT:
            self._there = True
            return value
        self._first = self._first if self._lacking else record
        self._lacking += 1
        if self._lacking == _LOOKED_AT and not self._there:
            self._refuse()
        return None

    def end(self) -> None:
        """After the last record."""
        if self._lacking and not self._there:
            self._refuse()
        if self._lacking:
            console.warn_once(
                f"{self._where}: {self._lacking:,} records have no field {self._name!r} ({self._setting}); the first "
                f"is {self._first.where}"
            )

    def _refuse(self) -> None:
        raise RequestError(
            f"{self._where}: expected a field {self._name!r}, found {brief(', '.join(self._first.values)) or 'none'}; "
            f"set {self._setting}="
        )


def _inside(values: dict[str, Any], name: str) -> Any:
    """The value of a field with this name, dots and all, or else of the field inside others that the dots name."""
    if name in values:
        return values[name]
    value: Any = values
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _domain(value: Any, record: Record, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise RequestError(
            f"{record.where}: field {name!r}: expected the name of a domain, found {_described(value)}; "
            "set data.domain="
        )
    return str(value)


def _described(value: Any) -> str:
    """What a value is, and its beginning."""
    match value:
        case None:
            return "null"
        case bool():
            kind = "a truth value"
        case int() | float():
            kind = "a number"
        case str():
            kind = "text"
        case bytes():
            kind = "bytes"
        case [dict(), *_]:
            kind = "a list of records"
        case [int() | float(), *_]:
            kind = "a list of numbers"
        case list():
            kind = "a list"
        case dict():
            kind = "a record"
        case _:
            kind = type(value).__name__
    return f"{kind} ({brief(repr(value), 60)})"


def _advice(value: Any) -> str:
    match value:
        case [int(), *_]:
            return "; token ids are not read: set data.column= to the text that they were made of"
        case [dict(), *_]:
            return "; chats are not read: set data.column= to a field of text"
        case dict():
            return f"; a field inside is data.column=…, one of {brief(', '.join(map(str, value)))}"
        case _:
            return "; set data.column="
