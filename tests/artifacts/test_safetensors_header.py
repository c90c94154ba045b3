"""Headers of strangers: what does not fit its file is refused before anything is made room for."""

import json
import time
import tracemalloc

import pytest
import safetensors.torch
import torch

from sae_cli.artifacts.safetensors_header import DTYPE_BYTES, TensorEntry, read_header
from sae_cli.artifacts.tensors import map_tensor, read_metadata, read_tensors, write_tensors
from sae_cli.errors import JobError

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(path, header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


def test_a_header_as_it_is_written(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(
        path, {"b": torch.ones(2, 3), "a": torch.ones((), dtype=torch.int64), "c": torch.ones(0, 4)}, {"k": 1}
    )
    header = read_header(path)
    assert header.tensors["b"].shape == (2, 3) and header.tensors["b"].dtype == "F32"
    assert header.tensors["a"].shape == () and header.tensors["c"].shape == (0, 4)
    assert header.metadata == {"sae": '{"k": 1}'}
    assert list(header.tensors.values()) == sorted(header.tensors.values(), key=lambda entry: entry.begin)


@pytest.mark.parametrize("dtype", DTYPE_BYTES)
def test_every_dtype_is_read(tmp_path, dtype):
    n_bytes = 3 * DTYPE_BYTES[dtype]
    header = {"x": {"dtype": dtype, "shape": [3], "data_offsets": [0, n_bytes]}}
    path = file_of(tmp_path / "x", header, b"\0" * n_bytes)
    assert read_header(path).tensors == {"x": TensorEntry(dtype, (3,), 0, n_bytes)}
    assert read_tensors(path)["x"].shape == map_tensor(path, "x").shape == (3,)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"x": ONE | {"data_offsets": [0, 4]}}, r"x of shape \[2\] and dtype F32 in 4 bytes"),
        ({"x": ONE | {"data_offsets": [8, 0]}}, "in -8 bytes"),
        ({"x": ONE | {"data_offsets": [-8, 0]}}, r"x at \[-8, 0\]"),
        ({"x": ONE | {"data_offsets": [0, 8, 8]}}, "x at"),
        ({"x": ONE | {"data_offsets": [0.0, 8]}}, "x at"),
        ({"x": ONE | {"dtype": "F33"}}, "x of unknown dtype 'F33'"),
        ({"x": ONE | {"dtype": []}}, "x of unknown dtype"),
        ({"x": ONE | {"shape": [-2]}}, r"x of shape \[-2\]"),
        ({"x": ONE | {"shape": [True]}}, "x of shape"),
        ({"x": ONE | {"shape": 2}}, "x of shape 2"),
        ({"x": ONE | {"shape": [1] * 17}}, "x of shape"),
        ({"x": ONE | {"shape": [2**32, 2**32]}}, "x of impossible shape"),
        ({"x": ONE | {"shape": [0, 2**63], "data_offsets": [0, 0]}}, "x of impossible shape"),
        ({"x": ONE | {"shape": [10**12]}}, "in 8 bytes"),
        ({"x": ONE | {"more": 1}}, "x without exactly dtype, shape and data_offsets"),
        ({"x": [1]}, "x without exactly"),
        ({"x": ONE, "y": ONE}, "y at byte 0, where the one before ends at 8"),
        ({"x": ONE | {"data_offsets": [8, 16]}}, "x at byte 8, where the one before ends at 0"),
        ({"x": ONE | {"shape": [4], "data_offsets": [0, 16]}}, "tensors of 16 bytes and 8 bytes for them"),
        ({"x": ONE | {"shape": [1], "data_offsets": [0, 4]}}, "tensors of 4 bytes and 8 bytes for them"),
        ({}, "tensors of 0 bytes and 8 bytes for them"),
        ({"x": ONE, "__metadata__": {"a": 1}}, "metadata that is not text by name"),
        ({"x": ONE, "__metadata__": []}, "metadata that is not text by name"),
        ([ONE], "a header that is no object"),
        (b'{"x":', "Expecting value"),
        (b'{"x": NaN}', "NaN, which is no JSON"),
        (b"[" * 100_000, "more than 32 levels of nesting"),
        (b'{"a": 1, "a": 1}', "a key twice"),
        (b"\xff\xff", "utf-8"),
        (json.dumps({"x" * 5000: 1}).encode(), "found x{200}…;"),
    ],
)
def test_what_is_refused_by_every_reader(tmp_path, header, says):
    path = file_of(tmp_path / "x.safetensors", header, b"\0" * 8)
    for read in (read_header, read_tensors, read_metadata, lambda path: map_tensor(path, "x")):
        with pytest.raises(JobError, match=r"x\.safetensors: damaged file: expected a safetensors file") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(JobError, match=says):
        read_header(path)


@pytest.mark.parametrize("length", [9, 2**32, 2**63, 2**64 - 1])
def test_a_header_longer_than_the_file(tmp_path, length):
    path = file_of(tmp_path / "x", b"{}", length=length)
    with pytest.raises(JobError, match=rf"a header of {length:,} bytes in a file of 10"):
        read_header(path)


def test_a_file_without_a_header(tmp_path):
    for content in (b"", b"\0" * 7):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(JobError, match="a header of 0 bytes in a file of"):
            read_header(tmp_path / "x")
    with pytest.raises(JobError, match="found No such file or directory"):
        read_header(tmp_path / "nowhere")
    with pytest.raises(JobError, match="found Is a directory"):
        read_header(tmp_path)


def test_a_sparse_giant_costs_neither_memory_nor_time(tmp_path):
    path = tmp_path / "giant"
    with open(path, "wb") as file:
        file.write((2**38).to_bytes(8, "little"))
        file.truncate(2**39)
    tracemalloc.start()
    started = time.perf_counter()
    for read in (read_header, read_tensors, read_metadata):
        with pytest.raises(JobError, match=r"274,877,906,944 bytes, more than 8,388,608"):
            read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20 and time.perf_counter() - started < 1


def test_files_of_other_writers_are_read(tmp_path):
    tensors = {"ü": torch.ones(3, 1), "b": torch.zeros(2, dtype=torch.bool)}
    safetensors.torch.save_file(tensors, tmp_path / "x", metadata={"format": "pt", "by": "ß"})
    assert set(read_header(tmp_path / "x").tensors) == {"ü", "b"}
    assert torch.equal(read_tensors(tmp_path / "x")["ü"], torch.ones(3, 1))
    assert read_metadata(tmp_path / "x") == {}


def test_metadata_that_is_no_object(tmp_path):
    header = {"__metadata__": {"sae": "[1]"}}
    with pytest.raises(JobError, match="expected a safetensors file with a JSON header, found a list for metadata"):
        read_metadata(file_of(tmp_path / "x", header))
    with pytest.raises(JobError, match="expected a safetensors file with a JSON header, found Expecting"):
        read_metadata(file_of(tmp_path / "x", {"__metadata__": {"sae": "{"}}))


def test_a_tensor_that_is_not_there(tmp_path):
    with pytest.raises(JobError, match="expected a safetensors file with y, found x"):
        map_tensor(file_of(tmp_path / "x", {"x": ONE}, b"\0" * 8), "y")
