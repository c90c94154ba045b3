"""The header of a safetensors file, looked at before anything that it describes is read or made room for.

The library checks that names, number formats, shapes and places fit the file's bytes; what it lets pass and PyTorch
stumbles over is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from sae_cli.artifacts.files import damaged
from sae_cli.errors import denied

_FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "C64")
DTYPES = frozenset((*_FLOATS, "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"))
"""The format's names of the number formats that every supported PyTorch has."""

_MAX_DIMENSIONS = 16
_MAX_NUMBERS = 2**60
"""In the shape of a tensor without the dimensions that are zero; PyTorch multiplies them too."""


class TensorEntry(NamedTuple):
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]


class Header(NamedTuple):
    """A header that fits its file."""

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
    with open(path, "rb"):
        pass  # the library says of every file that it cannot open that there is none
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            tensors = {name: TensorEntry(each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(str(error).removeprefix("Error while deserializing header: ")) from error
    for name, (dtype, shape) in tensors.items():
        if dtype not in DTYPES:
            raise ValueError(f"{name} of unknown dtype {dtype!r}")
        if len(shape) > _MAX_DIMENSIONS or math.prod(size or 1 for size in shape) > _MAX_NUMBERS:
            raise ValueError(f"{name} of impossible shape {list(shape)}")
    return Header(tensors, metadata)


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
