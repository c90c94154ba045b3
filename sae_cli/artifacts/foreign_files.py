"""Files of other tools, read with suspicion: nothing in them is run, and none costs more memory than it has bytes.

Every file that is read is hashed, so that a card can say what a dictionary was made of.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, TypeAlias

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sae_cli.artifacts.files import FileRecord
from sae_cli.artifacts.json_document import check_length, parse_json
from sae_cli.artifacts.safetensors_header import parse_header
from sae_cli.documents import Document, is_document
from sae_cli.errors import JobError, denied
from sae_cli.escaping import brief

PICKLES = (".pt", ".pth")
_SEPARATOR = "."
_MOST_ENTRIES = 10_000
_MOST_LEVELS = 4
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8, torch.bool)

_MAGIC = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
"""How an array begins, and how many bytes say how long its header is."""
_LONGEST_HEADER, _MOST_DIMENSIONS = 4096, 8
_IN_HEADER = (
    re.compile(r"'descr': '([<>|=]?(?:f[248]|i[1248]|u1))'"),
    re.compile(r"'fortran_order': (True|False)"),
    re.compile(r"'shape': \(([0-9, ]{0,200})\)"),
)

_OF_DAMAGED_PICKLES = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    struct.error,
)
"""What PyTorch's reader of plain pickles raises where one is damaged."""

Scalar: TypeAlias = "str | int | float | bool | None"


def unreadable(path: Path, expected: str, found: str) -> JobError:
    """The one line for a file of another tool that is not what it should be."""
    return JobError(f"{path}: expected {expected}, found {brief(found)}; get the file again from where it came from")


class ForeignFiles:
    """A dictionary of another tool: a folder, or one file with what lies beside it.

    Attributes:
        address: what was asked for.
        folder: where its files are.
        file: the one file that is meant; None for all of the folder.
        read: every file that was read so far, by its name.
    """

    def __init__(self, address: Path) -> None:
        self.address = address
        self.file = None if address.is_dir() else address.name
        self.folder = address if self.file is None else address.parent
        self.read: dict[str, FileRecord] = {}

    def has(self, name: str) -> bool:
        """Whether there is such a file, relative to the folder; beside a file that is meant only what describes it."""
        return (self.folder / name).is_file()

    def names(self) -> list[str]:
        """The files that may hold the dictionary, sorted."""
        if self.file is not None:
            return [self.file]
        return sorted(each.name for each in self.folder.iterdir() if each.is_file())

    def json(self, name: str) -> Document:
        """The object in a JSON file.

        Raises:
            JobError: there is none, or it is no object.
        """
        path = self.folder / name
        try:
            check_length(path.stat().st_size)
            found = parse_json(self._bytes(name))
        except ValueError as error:
            raise unreadable(path, "a JSON document", str(error)) from error
        except OSError as error:
            raise _denied(path, error) from error
        if not is_document(found):
            raise unreadable(path, "a JSON object", f"a {type(found).__name__}")
        return found

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a file, by their names; `.safetensors`, `.npz`, or a pickle of PyTorch (inner names joined by
        dots, read with `weights_only`).

        Raises:
            JobError: it is no such file, or holds what is not a tensor of numbers.
        """
        path = self.folder / name
        try:
            if path.suffix == ".safetensors":
                return self._safetensors(name)
            if path.suffix == ".npz":
                return dict(_arrays(path, self._digest(name)))
            return {key: value for key, value in self._pickled(name) if isinstance(value, Tensor)}
        except ValueError as error:
            raise unreadable(path, f"tensors in a {path.suffix} file", str(error)) from error
        except OSError as error:
            raise _denied(path, error) from error

    def scalars(self, name: str) -> dict[str, Scalar]:
        """The texts and numbers in a pickle of PyTorch, named as its tensors are; errors as `tensors`."""
        path = self.folder / name
        try:
            return {key: value for key, value in self._pickled(name) if not isinstance(value, Tensor)}
        except ValueError as error:
            raise unreadable(path, f"tensors in a {path.suffix} file", str(error)) from error
        except OSError as error:
            raise _denied(path, error) from error

    def sha256(self) -> str:
        """One hash of all that was read: of the lines that `sha256sum` prints, sorted by name."""
        lines = (f"{record.sha256}  {name}\n" for name, record in sorted(self.read.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _safetensors(self, name: str) -> dict[str, Tensor]:
        parse_header(self.folder / name)
        try:
            return safetensors.torch.load(self._bytes(name))
        except SafetensorError as error:
            raise ValueError(str(error)) from error

    def _pickled(self, name: str) -> Iterator[tuple[str, Tensor | Scalar]]:
        path = self.folder / name
        size = self._digest(name)
        _check_archive(path, size)
        try:
            # Mapped: a storage that claims more than the file has is cut off, instead of being read from beyond it.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what it makes of a damaged file
                found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:
            raise ValueError(f"a pickle of more than tensors ({str(error).splitlines()[0]})") from error
        except _OF_DAMAGED_PICKLES as error:
            raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error
        flat = dict(_flattened(found))
        if sum(each.numel() * each.element_size() for each in flat.values() if isinstance(each, Tensor)) > size:
            raise ValueError("tensors larger than the file")
        return iter({key: value.clone() if isinstance(value, Tensor) else value for key, value in flat.items()}.items())

    def _bytes(self, name: str) -> bytes:
        content = (self.folder / name).read_bytes()
        self.read[name] = FileRecord(len(content), hashlib.sha256(content).hexdigest())
        return content

    def _digest(self, name: str) -> int:
        """Note a file that is read by a library; its size."""
        with open(self.folder / name, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.seek(0, 2)
        self.read[name] = FileRecord(size, digest)
        return size


def as_float(path: Path, name: str, tensor: Tensor) -> Tensor:
    """A tensor in float32; a `JobError` where it holds no numbers, or one that is not finite."""
    if tensor.dtype not in (*_FLOATS, *_WHOLE):
        raise unreadable(path, f"{name} of numbers", str(tensor.dtype))
    # Large tensors are looked at in parts, so that this costs no memory.
    found = tensor.float().contiguous()
    if found.numel() and not all(end.isfinite() for end in found.aminmax()):
        raise unreadable(path, f"{name} of finite numbers in float32", "NaN or infinity")
    return found


def _check_archive(path: Path, size: int) -> None:
    """See that a file of PyTorch is an archive that is not compressed; older files have no bounds in them."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, EOFError, OverflowError) as error:
        raise ValueError(f"no zip archive, which torch.save has written since 1.6 ({error})") from error
    if any(each.compress_type != zipfile.ZIP_STORED for each in entries) or len(entries) > _MOST_ENTRIES:
        raise ValueError("a compressed archive")
    if sum(each.file_size for each in entries) > size:
        raise ValueError("entries larger than the file")


def _flattened(value: object, prefix: str = "", level: int = 0) -> Iterator[tuple[str, Tensor | Scalar]]:
    """The tensors, texts and numbers in nested mappings, by their joined names; lists are left out."""
    if isinstance(value, Tensor):
        if value.is_sparse or value.is_quantized or value.is_nested or value.device.type != "cpu":
            raise ValueError(f"{prefix} of a layout that is not dense")
        yield prefix, value
    elif isinstance(value, str | int | float | bool) or value is None:
        yield prefix, value
    elif isinstance(value, Mapping):
        if level > _MOST_LEVELS:
            raise ValueError("too many levels")
        for key, inner in value.items():
            yield from _flattened(inner, f"{prefix}{_SEPARATOR}{key}" if prefix else str(key), level + 1)


def _arrays(path: Path, size: int) -> Iterator[tuple[str, Tensor]]:
    """The arrays of an archive of NumPy, none of them of objects."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(each.file_size for each in entries) > 2 * size or len(entries) > _MOST_ENTRIES:
                raise ValueError("entries larger than the file")
            for each in entries:
                with archive.open(each) as file:
                    yield PurePosixPath(each.filename).stem, _array(file, each.file_size)
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError, LookupError, TypeError) as error:
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error


def _array(file: IO[bytes], size: int) -> Tensor:
    """One array in NumPy's format, whose header is a literal of Python: read here, because NumPy evaluates it."""
    magic = file.read(8)
    if magic not in _MAGIC:
        raise ValueError(f"an array that begins with {magic!r}")
    length = int.from_bytes(file.read(_MAGIC[magic]), "little")
    header = file.read(min(length, _LONGEST_HEADER)).decode("latin-1")
    kind, order, shape = (found[1] if (found := each.search(header)) else None for each in _IN_HEADER)
    if kind is None or order is None or shape is None:
        raise ValueError(f"an array that says {brief(header, 60)!r}")
    dtype, sizes = np.dtype(kind), [int(each) for each in shape.split(",") if each.strip()]
    if math.prod(sizes) * dtype.itemsize > size or len(sizes) > _MOST_DIMENSIONS:
        raise ValueError(f"an array of shape {sizes[:_MOST_DIMENSIONS]} in {size} bytes")
    content = file.read()
    if len(content) != math.prod(sizes) * dtype.itemsize:
        raise ValueError(f"an array of shape {sizes} in {len(content)} bytes")
    numbers = np.frombuffer(content, dtype)
    found = numbers.reshape(sizes[::-1]).T if order == "True" else numbers.reshape(sizes)
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("="), order="C", copy=True))


def _denied(path: Path, error: OSError) -> JobError:
    return denied(error, path) or unreadable(path, "a file", error.strerror or type(error).__name__)
