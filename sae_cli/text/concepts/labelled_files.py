"""A file of labelled documents, one JSON object a line.

    {"text": …, "label": 0 | 1 | "name", "key"?: …, "group"?: …}       one label a document
    {"text": …, "spans": [[start, end, "name"], …], "key"?, "group"?}  labels of stretches, in characters

Documents of one group, or else of one key, are never divided between fitting and testing; those of a file without
either are each by themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sae_cli.errors import RequestError
from sae_cli.escaping import brief
from sae_cli.text.concepts.python_source import Span
from sae_cli.text.concepts.token_labels import TokenPlaces
from sae_cli.text.documents import document_id


class LabelledDocument(NamedTuple):
    """A line of the file.

    Attributes:
        group: the id of what is never divided.
        text: the document.
        label: of all of it; None where it has spans.
        spans: where each concept holds.
        number: of the line, from 1.
    """

    group: int
    text: str
    label: int | str | None
    spans: dict[str, list[Span]]
    number: int


class LabelledFile:
    """The documents of a file, which is read whenever they are asked for.

    Attributes:
        path: where it is.
        names: of its concepts: those of the spans, or the labels that are words, or the file's own name where labels
            are 0 and 1.
        pooled: whether each document has one label.
        groups: the id of each document's group, in the order of the file, int64 [documents].
        sizes: characters of each document [documents].
        classes: the number among `names` of each document's label, -1 for none [documents]; empty with spans.

    Raises:
        RequestError: it is not there, or a line is none of these objects.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        names: dict[str, None] = {}
        kinds: set[type] = set()
        groups, sizes, labels = [], [], []
        for each in self.documents():
            groups.append(each.group)
            sizes.append(len(each.text))
            kinds.add(type(each.label))
            names.update(dict.fromkeys([each.label] if isinstance(each.label, str) else each.spans))
            labels.append(each.label)
            if len(kinds) > 1:
                raise self._wrong(each.number, "labels of one kind in all lines (0 and 1, words, or spans)", "others")
        if not groups:
            raise RequestError(f"labels={path}: expected documents, found none")
        self.pooled = type(None) not in kinds
        self.names = tuple(names) or (Path(path).stem,)
        number = {name: place for place, name in enumerate(self.names)}
        classes = [number[label] if isinstance(label, str) else int(label or 0) - 1 for label in labels]
        self.classes = np.array(classes if self.pooled else [], dtype=np.int64)
        self.groups, self.sizes = np.array(groups, dtype=np.int64), np.array(sizes, dtype=np.int64)

    def documents(self) -> Iterator[LabelledDocument]:
        """All of them, in order."""
        try:
            with open(self.path, encoding="utf-8") as file:
                for number, line in enumerate(file, start=1):
                    if line.strip():
                        yield labelled_document(line, number, f"labels={self.path}", Path(self.path).name)
        except OSError as error:
            raise RequestError(f"labels={self.path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RequestError(f"labels={self.path}: expected UTF-8, found {error.reason}") from error

    def labels(self, document: LabelledDocument, n_bytes: np.ndarray) -> np.ndarray:
        """The labels of a document's tokens, int8 [n, names]; of one with spans.

        Args:
            document: of this file.
            n_bytes: bytes that each token stands for [n].
        """
        places = TokenPlaces(document.text, n_bytes)
        return np.stack([places.labels(document.spans.get(name, [])) for name in self.names], axis=1)

    def _wrong(self, number: int, expected: str, found: str) -> RequestError:
        return _wrong(f"labels={self.path}", number, expected, found)


def labelled_document(line: str, number: int, where: str, source: str, is_labelled: bool = True) -> LabelledDocument:
    """The document in a line.

    Args:
        line: of JSON.
        number: its number, from 1.
        where: what is read, for messages.
        source: the beginning of the key of a document that has none.
        is_labelled: whether it must have a label or spans; else it may.

    Raises:
        RequestError: it is none.
    """
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _wrong(where, number, "a JSON object", brief(line.strip(), 60)) from error
    text = found.get("text") if isinstance(found, dict) else None
    if not isinstance(text, str):
        raise _wrong(where, number, 'an object with a "text"', brief(line.strip(), 60))
    label, spans = found.get("label"), found.get("spans")
    if (label is not None and spans is not None) or (is_labelled and label is None and spans is None):
        raise _wrong(where, number, 'either a "label" or "spans"', "neither" if label is None else "both")
    is_word = isinstance(label, str) and label != ""
    if label is not None and not is_word and (isinstance(label, str) or label not in (0, 1)):
        raise _wrong(where, number, '"label": 0, 1 or a name', brief(repr(label), 60))
    key = found.get("group", found.get("key"))
    group = document_id(str(key) if key is not None else f"{source}:{number}")
    label = label if is_word or label is None else int(label)
    return LabelledDocument(group, text, label, _spans(where, number, text, spans or []), number)


def _spans(where: str, number: int, text: str, spans: object) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = {}
    for each in spans if isinstance(spans, list) else [spans]:
        match each:
            case [int(start), int(end), str(name)] if 0 <= start < end <= len(text):
                found.setdefault(name, []).append((start, end))
            case _:
                expected = f'"spans" as [start, end, "name"], in the {len(text)} characters of the text'
                raise _wrong(where, number, expected, brief(json.dumps(each), 60))
    return found


def _wrong(where: str, number: int, expected: str, found: str) -> RequestError:
    return RequestError(f"{where}: line {number}: expected {expected}, found {found}")
