"""What a record holds, as a document: text, token ids, or the messages of a chat. Everything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from sae_cli.documents import Facts
from sae_cli.errors import RequestError
from sae_cli.escaping import brief
from sae_cli.terminal import console
from sae_cli.text.documents import Document
from sae_cli.text.records import Record

_LOOKED_AT = 10_000
"""Records without a field after which it is taken to be missing from the file."""
_ABSENT = object()


class Text(NamedTuple):
    """The text of a document, or its tokens."""

    text: str
    tokens: Sequence[int] | None = None


@runtime_checkable
class Content(Protocol):
    """How the value of a field becomes a text; `what` names the field and where it stands, for messages."""

    def __call__(self, value: object, what: str) -> Text: ...


def plain_text(value: object, what: str) -> Text:
    """A string as it is, but that half a surrogate pair, which is no character, is U+FFFD.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(value, str):
        raise RequestError(f"{what}: expected text, found {_described(value)}{_advice(value)}")
    return Text(value if value.isascii() else value.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


@dataclass(frozen=True)
class TokenIds:
    """Lists of token ids.

    Attributes:
        vocabulary: number of tokens that the model knows.
    """

    vocabulary: int

    def __call__(self, value: object, what: str) -> Text:
        """Raises: RequestError, if it is no list of ids of the model's tokens."""
        if not isinstance(value, list) or not all(type(each) is int for each in value):
            inside = isinstance(value, list)
            wrong = next(each for each in value if type(each) is not int) if inside else value
            raise RequestError(
                f"{what}: expected a list of token ids (data.tokens=true), found {_described(wrong)}"
                f"{' in it' if inside else ''}"
            )
        if value and not (min(value) >= 0 and max(value) < self.vocabulary):
            wrong = next(each for each in value if not 0 <= each < self.vocabulary)
            raise RequestError(
                f"{what}: expected ids from 0 to {self.vocabulary - 1:,}, which are this model's tokens, found {wrong}"
            )
        return Text("", value)


@dataclass(frozen=True)
class Chats:
    """Lists of messages.

    Attributes:
        render: the messages as text, as the model expects them; a `ValueError` where it cannot.
    """

    render: Callable[[list[dict[str, object]]], str]

    def __call__(self, value: object, what: str) -> Text:
        """Raises: RequestError, if it is no list of messages that the template can write."""
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise RequestError(f"{what}: expected a list of messages (data.chat=true), found {_described(value)}")
        messages = [{name: inner for name, inner in each.items() if inner is not None} for each in value]
        for each in messages:
            if not (isinstance(each.get("role"), str) and isinstance(each.get("content"), str)):
                raise RequestError(
                    f"{what}: expected messages with a role and a content, both text, found {_described(each)}"
                )
        try:
            return plain_text(self.render(messages) if messages else "", what)
        except ValueError as error:
            raise RequestError(
                f"{what}: expected messages for the tokenizer's chat template, found {_described(value)}: {error}"
            ) from error


@dataclass(frozen=True)
class RecordFormat:
    """How records become documents.

    Attributes:
        column: the field that holds the text; `a.b` looks inside a nested one.
        domain: the field that names the domain; empty for none.
        content: how the field's value becomes a text.
    """

    column: str
    domain: str = ""
    content: Content = plain_text

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
            is_wanted = wanted(key := f"{name}:{index}")
            # What is wrong on the other side of the split is refused too, not first when a training is evaluated; but
            # a chat is not written for that.
            if not is_wanted and isinstance(self.content, Chats):
                continue
            found = self.content(value, f"{record.where}: field {self.column!r}")
            of_it = _domain(named, record, self.domain)
            if is_wanted and (found.text or found.tokens):
                yield Document(key, found.text, of_it, found.tokens)
        text.end()
        of_domain.end()


class _Field:
    """A field of the records of one file, which some of them may lack but not all."""

    def __init__(self, name: str, setting: str, where: str) -> None:
        self._name, self._setting, self._where = name, setting, where
        self._there, self._lacking, self._first = False, 0, Record("", {})

    def of(self, record: Record) -> object:
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


def _inside(values: Facts, name: str) -> object:
    """The value of a field with this name, dots and all, or else of the field inside others that the dots name."""
    if name in values:
        return values[name]
    value: object = values
    for part in name.split("."):
        if value is None:
            return None
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def _domain(value: object, record: Record, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise RequestError(
            f"{record.where}: field {name!r}: expected the name of a domain, found {_described(value)}; "
            "set data.domain="
        )
    return str(value)


def _described(value: object) -> str:
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


def _advice(value: object) -> str:
    match value:
        case [int(), *_]:
            return "; if these are ids of the model's tokens, set data.tokens=true"
        case [dict(), *_]:
            return "; if these are the messages of a chat, set data.chat=true"
        case dict():
            return f"; a field inside is data.column=…, one of {brief(', '.join(map(str, value)))}"
        case _:
            return "; set data.column="
