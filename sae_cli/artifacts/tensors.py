"""safetensors files: tensors by name, and a JSON object of metadata in the header.

Every reader looks at the header first (`safetensors_header`), so that a hostile file costs no memory.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from sae_cli.artifacts.files import FileRecord, check_size, damaged, read_bytes, write_file
from sae_cli.artifacts.json_document import parse_json
from sae_cli.artifacts.safetensors_header import read_header
from sae_cli.documents import Facts
from sae_cli.errors import denied

# One key, because safetensors writes several in no fixed order and equal runs must be equal bytes.
_METADATA_KEY = "sae"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Facts | None = None) -> FileRecord:
    """Write named tensors (moved to the CPU) and metadata; the bytes are a function of both alone."""
    header = {_METADATA_KEY: json.dumps(metadata or {}, sort_keys=True, allow_nan=False)}
    on_cpu: dict[str, Tensor] = {}
    addresses: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        # The format refuses tensors that share memory (a tied dictionary, slices of one block).
        on_cpu[name] = plain.clone() if (address := plain.untyped_storage().data_ptr()) in addresses else plain
        addresses.add(address)

    def write(temporary: Path) -> None:
        try:
            safetensors.torch.save_file(on_cpu, temporary, metadata=header)
        except SafetensorError as error:
            raise _as_os_error(error) from error

    return write_file(path, write)


def _as_os_error(error: SafetensorError) -> OSError:
    """What the library says of a failed write, with the system's error number where it gives one."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(str(error))


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
