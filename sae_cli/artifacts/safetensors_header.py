"""The header of a safetensors file, checked before anything that it describes is read or made room for.

The file is eight bytes that give the header's length, the header in JSON, and the tensors' bytes. Whatever a header
claims is compared with the size of the file: no claim costs memory or time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sae_cli.artifacts.files import damaged
from sae_cli.artifacts.json_document import check_length, parse_json
from sae_cli.errors import denied

DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""The format's names of number formats, and the bytes of one number."""

_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 16
_MAX_NUMBERS = 2**60
"""In the shape of a tensor without the dimensions that are zero; PyTorch multiplies them too."""


class TensorEntry(NamedTuple):
    """What a header says of a tensor; `begin` and `end` count bytes from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """A header that fits its file: the tensors, in the order of their bytes, fill it without gap or overlap."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        JobError: the file is missing, may not be read, is no safetensors file, or its header does not fit the file.
    """
    try:
        return parse_header(path)
    except ValueError as error:
        raise damaged(path, "a safetensors file", str(error)) from error
    except OSError as error:
        raise denied(error, path) or damaged(
            path, "a safetensors file", error.strerror or type(error).__name__
        ) from error


def parse_header(path: Path) -> Header:
    """The header of a safetensors file.

    Raises:
        ValueError: it is no safetensors file, or its header does not fit the file.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return _read(file)


def expect(path: Path, header: Header, layout: Mapping[str, str], others: bool = False) -> dict[str, int]:
    """Compare a header with the tensors that a file of its kind has; returns the size that each letter stands for.

    Args:
        path: of the file, for messages.
        header: of the file.
        layout: tensor name to dtypes and dimensions: `{"count": "I64 W F", "x": "F32|BF16 F D"}`.
        others: let tensors be that are not named.

    Raises:
        JobError: a tensor is missing, is one too many, or has another dtype or shape.
    """
    if missing := [name for name in layout if name not in header.tensors]:
        raise damaged(path, f"tensors {', '.join(missing)}", ", ".join(header.tensors) or "none")
    if not others and (surplus := [name for name in header.tensors if name not in layout]):
        raise damaged(path, f"only the tensors {', '.join(layout)}", ", ".join(surplus))
    sizes: dict[str, int] = {}
    for name, described in layout.items():
        dtypes, *letters = described.split()
        entry = header.tensors[name]
        fits = len(entry.shape) == len(letters) and entry.dtype in dtypes.split("|")
        if not fits or any(
            sizes.setdefault(letter, size) != size for letter, size in zip(letters, entry.shape, strict=True)
        ):
            known = "".join(f", {letter}={sizes[letter]}" for letter in letters if letter in sizes)
            raise damaged(path, f"{name} of {described}{known}", f"{entry.dtype} {list(entry.shape)}")
    return sizes


def _read(file: BinaryIO) -> Header:
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
        raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
    check_length(length)
    content = parse_json(file.read(length))
    if not isinstance(content, dict):
        raise ValueError("a header that is no object")
    metadata = _metadata(content.pop("__metadata__", {}))
    tensors = {name: _entry(name, value) for name, value in content.items()}
    return Header(_in_order(tensors, size - _LENGTH_BYTES - length), metadata)


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise ValueError("metadata that is not text by name")
    return value


def _entry(name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} without exactly dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ValueError(f"{name} of unknown dtype {dtype!r}")
    if not _are_sizes(shape) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"{name} of shape {shape}")
    if math.prod(size or 1 for size in shape) > _MAX_NUMBERS:
        raise ValueError(f"{name} of impossible shape {shape}")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} at {offsets}")
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise ValueError(f"{name} of shape {shape} and dtype {dtype} in {offsets[1] - offsets[0]:,} bytes")
    return TensorEntry(dtype, tuple(shape), offsets[0], offsets[1])


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is int and each >= 0 for each in value)


def _in_order(tensors: dict[str, TensorEntry], n_bytes: int) -> dict[str, TensorEntry]:
    """The tensors by their place; refused where one overlaps another, or where bytes belong to none."""
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)))
    end = 0
    for name, entry in ordered.items():
        if entry.begin != end:
            raise ValueError(f"{name} at byte {entry.begin:,}, where the one before ends at {end:,}")
        end = entry.end
    if end != n_bytes:
        raise ValueError(f"tensors of {end:,} bytes and {n_bytes:,} bytes for them")
    return ordered
