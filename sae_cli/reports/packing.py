"""Numbers for the page: typed arrays in one compressed block, which the browser unpacks; each array once."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np

from sae_cli.documents import Document

_ALIGNED = 8
_CODES = {"float64": "f8", "float32": "f4", "int32": "i4", "uint16": "u2", "uint8": "u1"}


class Pack:
    """Arrays one after another; equal ones are held once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0
        self._known: dict[tuple[str, bytes], int] = {}

    def add(self, values: np.ndarray) -> Document:
        """Where the page finds the array: `type`, `at` in bytes, `shape`."""
        plain = _plain(values)
        content = plain.tobytes()
        key = (plain.dtype.name, content)
        if key not in self._known:
            self._known[key] = self._length
            content += bytes(-len(content) % _ALIGNED)
            self._parts.append(content)
            self._length += len(content)
        return {"type": _CODES[plain.dtype.name], "at": self._known[key], "shape": list(plain.shape)}

    def encoded(self) -> str:
        """All of them, deflated, in base64."""
        return base64.b64encode(zlib.compress(b"".join(self._parts))).decode()


def _plain(values: np.ndarray) -> np.ndarray:
    """In a format that JavaScript has, little-endian; 64-bit integers exact up to 2^53."""
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values, dtype=np.uint8)
    if values.dtype.name in _CODES:
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    if np.issubdtype(values.dtype, np.integer) and values.size and -(2**31) <= values.min() <= values.max() < 2**31:
        return np.ascontiguousarray(values, dtype="<i4")
    return np.ascontiguousarray(values, dtype="<f8")


def script_json(value: object) -> str:
    """Strict JSON that can stand in a script element: nothing in it ends the element or the line."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for each in "<>&\u2028\u2029":
        text = text.replace(each, f"\\u{ord(each):04x}")
    return text
