"""Tensors that grow on the disk while a pass goes on, and become a safetensors file that is never held in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sae_cli.artifacts.files import FileRecord, unwritable, write_file

Numbers: TypeAlias = NDArray[np.generic]

_NAMES = {"float16": "F16", "float32": "F32", "int64": "I64", "uint16": "U16", "uint32": "U32"}
"""What the format calls the number formats."""

_CHUNK = 2**20
"""Numbers that are copied at once."""


class Spilled:
    """A tensor [N, …] whose rows are added one part after another, and kept in a file until it is written.

    Args:
        path: of that file.
        dtype: its numbers are held in.
        shape: of a row; () for numbers.

    Attributes:
        dtype: its numbers are written in, which may be set after the last part.
        n: rows so far, N.
    """

    def __init__(self, path: Path, dtype: type[np.generic], shape: tuple[int, ...] = ()) -> None:
        self._path, self._held = path, np.dtype(dtype)
        self.dtype, self._row, self.n = np.dtype(dtype), shape, 0
        path.touch()

    @property
    def shape(self) -> list[int]:
        """Of all rows."""
        return [self.n, *self._row]

    @property
    def n_bytes(self) -> int:
        """Of all rows, as they are written."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def add(self, rows: Numbers) -> None:
        """Add rows [K, …].

        Raises:
            JobError: they cannot be written.
        """
        assert rows.shape[1:] == self._row
        try:
            with open(self._path, "ab") as file:
                file.write(np.ascontiguousarray(rows, dtype=self._held).tobytes())
        except OSError as error:
            raise unwritable(self._path, error) from error
        self.n += len(rows)

    def copy_to(self, file: BinaryIO) -> None:
        """Write all rows, a part at a time."""
        with open(self._path, "rb") as held:
            while part := held.read(_CHUNK * self._held.itemsize):
                file.write(np.frombuffer(part, self._held).astype(self.dtype, copy=False).tobytes())

    def forget(self) -> None:
        """Give its place on the disk free; there is no more to be done with it."""
        self._path.unlink()


@contextmanager
def spill_folder(beside: Path) -> Iterator[Path]:
    """A folder for what is spilled, in this one; nothing is left there."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=".spill-", dir=beside)
    except OSError as error:
        raise unwritable(beside, error) from error
    with folder as name:
        yield Path(name)


def write_spilled(path: Path, tensors: Mapping[str, Spilled]) -> FileRecord:
    """Write a safetensors file; the tensors with the widest numbers should come first, so that all are aligned.

    Raises:
        JobError: it cannot be written.
    """
    header: dict[str, object] = {}
    at = 0
    for name, each in tensors.items():
        header[name] = {"dtype": _NAMES[each.dtype.name], "shape": each.shape, "data_offsets": [at, at + each.n_bytes]}
        at += each.n_bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for each in tensors.values():
                each.copy_to(file)

    return write_file(path, write)
