"""JSON that anybody may have written: strict, and bounded in size, depth and memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sae_cli.artifacts.files import FileRecord, check_size, damaged, read_bytes

MAX_BYTES = 8 << 20
"""Of a document; a quarter of that where it is not ASCII, because such text takes up to four bytes a character."""

_MAX_DEPTH = 32
_MAX_INTEGER = 2**64
_FREE_MARKS, _BYTES_A_MARK = 100_000, 16
"""A document may have so many commas, colons and brackets, and beyond that one in so many bytes: each may stand for an
object that takes a hundred bytes of memory."""


def parse_json(content: bytes) -> Any:
    """The value of a document in strict JSON: no NaN, no infinity, no key twice, integers of 64 bits.

    Raises:
        ValueError: it is none, or is too large, too dense or nested too deeply.
    """
    _check_bounds(content)
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError(f"more than {_MAX_DEPTH} levels of nesting") from None
    _check_values(value)
    return value


def read_document(path: Path, record: FileRecord) -> Any:
    """The value of a JSON file that a manifest lists; the hash is always compared.

    Raises:
        JobError: the file is missing, is not what was written, or is no JSON document.
    """
    check_size(path, record)
    try:
        check_length(record.bytes)
        return parse_json(read_bytes(path, record, verify=True))
    except ValueError as error:
        raise damaged(path, "a JSON document", str(error)) from error


def check_length(n_bytes: int) -> None:
    """Look at a document's size before it is read.

    Raises:
        ValueError: it is too large.
    """
    if n_bytes > MAX_BYTES:
        raise ValueError(f"{n_bytes:,} bytes, more than {MAX_BYTES:,}")


def _check_bounds(content: bytes) -> None:
    check_length(len(content) if content.isascii() else 4 * len(content))
    marks = sum(content.count(mark) for mark in (b",", b":", b"[", b"{"))
    if marks > _FREE_MARKS + len(content) // _BYTES_A_MARK:
        raise ValueError(f"{marks:,} values in {len(content):,} bytes")


def _check_values(value: Any) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.keys()
                inner += each.values()
            elif isinstance(each, list):
                inner += each
            elif isinstance(each, str):
                each.encode()  # refuses lone surrogates
            elif isinstance(each, float) and not math.isfinite(each):
                raise ValueError("a number beyond all bounds")
            elif isinstance(each, int) and abs(each) >= _MAX_INTEGER:
                raise ValueError("an integer of more than 64 bits")
        level = inner
    if level:
        raise ValueError(f"more than {_MAX_DEPTH} levels of nesting")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant}, which is no JSON")
