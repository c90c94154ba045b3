"""Files of tensors: written in one pass, and the library's own bytes."""

import builtins
import hashlib
import io

import torch
from safetensors.torch import save_file

from sae_cli.artifacts import files
from sae_cli.artifacts.tensors import write_tensors

KINDS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.float16, torch.bfloat16, torch.int32, torch.float32)


def test_files_are_those_of_the_library_byte_for_byte(tmp_path):
    """Of every number format, of tensors that share memory, are no rows, or are one number, and names of any kind."""
    tensors = {f"é{i}.{dtype}": (torch.arange(i * 3).view(3, i) % 2).to(dtype) for i, dtype in enumerate(KINDS)}
    tensors |= {"b": torch.arange(5.0).double(), "a": torch.tensor(7), "c": torch.arange(12.0).view(3, 4).T}
    record = write_tensors(tmp_path / "ours", tensors, {"x": [1, None]})
    whole = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(whole, tmp_path / "theirs", metadata={"sae": '{"x": [1, null]}'})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert record.sha256 == hashlib.sha256((tmp_path / "theirs").read_bytes()).hexdigest()
    assert record.bytes == (tmp_path / "theirs").stat().st_size


def test_a_file_is_hashed_as_it_is_written(tmp_path, monkeypatch):
    """No byte is read again: the file is opened once, and each part is written as large as it is hashed."""
    opened, read = [], []

    class File(io.FileIO):
        def read(self, *args):
            read.append(args)
            return super().read(*args)

        readinto = readall = read

    def watched(path, *args, **kwargs):
        opened.append(path)
        return File(path, "rb+")

    monkeypatch.setattr(files, "open", watched, raising=False)
    monkeypatch.setattr(files, "_PART", 1000)
    write_tensors(tmp_path / "a", {"x": torch.arange(4096.0)})
    assert len(opened) == 1 and not read
    assert builtins.open is not watched
