"""safetensors files: tensors by name, and a JSON object of metadata in the header.

Every reader looks at the header first (`safetensors_header`), so that a hostile file costs no memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sae_cli.artifacts.files import FileRecord, check_size, damaged, read_bytes, write_parts
from sae_cli.artifacts.json_document import parse_json
from sae_cli.artifacts.safetensors_header import read_header
from sae_cli.documents import Facts
from sae_cli.errors import denied

# One key, because safetensors writes several in no fixed order and equal runs must be equal bytes.
_METADATA_KEY = "sae"
_NAMES = {
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.int16: "I16",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int32: "I32",
    torch.float32: "F32",
    torch.float64: "F64",
    torch.int64: "I64",
}
"""What the format calls the number formats, from the narrowest to the widest."""
_ORDER = tuple(_NAMES)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Facts | None = None) -> FileRecord:
    """Write named tensors (moved to the CPU) and metadata; the bytes are a function of both alone."""
    # The widest numbers first, so that all are aligned, as the library orders them.
    order = sorted(tensors, key=lambda name: (-_ORDER.index(tensors[name].dtype), name))
    header: dict[str, object] = {
        "__metadata__": {_METADATA_KEY: json.dumps(metadata or {}, sort_keys=True, allow_nan=False)}
    }
    at = 0
    for name in order:
        tensor = tensors[name]
        place = [at, at := at + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": place}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    bodies = (_bytes_of(tensors[name]) for name in order)
    return write_parts(path, chain([len(text).to_bytes(8, "little") + text], bodies))


def _bytes_of(tensor: Tensor) -> memoryview:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")


def read_tensors(path: Path, record: FileRecord | None = None, verify: bool = True) -> dict[str, Tensor]:
    """All tensors of a file, on the CPU; takes at most twice the file's size while it reads.

    Raises:
        JobError: the file is missing, damaged, or not a safetensors file.
    """
    if record is not None:
        check_size(path, record)
    read_header(path)
    content = read_bytes(path, record, verify)
    try:
        return safetensors.torch.load(content)
    except SafetensorError as error:
        raise damaged(path, "a safetensors file", str(error)) from error


def map_tensor(path: Path, name: str) -> Tensor:
    """One tensor of a file whose bytes are read when they are looked at. Check size and hash beforehand.

    Raises:
        JobError: not a safetensors file, or without this tensor.
    """
    if name not in (held := read_header(path).tensors):
        raise damaged(path, f"a safetensors file with {name}", ", ".join(held) or "no tensors")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise denied(error, path) or damaged(path, f"a safetensors file with {name}", str(error)) from error


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata that `write_tensors` put into the header.

    Raises:
        JobError: not a safetensors file, or with other metadata.
    """
    try:
        metadata = parse_json(read_header(path).metadata.get(_METADATA_KEY, "{}").encode())
    except ValueError as error:
        raise damaged(path, "a safetensors file with a JSON header", str(error)) from error
    if not isinstance(metadata, dict):
        raise damaged(path, "a safetensors file with a JSON header", f"a {type(metadata).__name__} for metadata")
    return metadata
