"""Headers of strangers: what does not fit its file is refused before anything is made room for."""

import json
import re
import time
import tracemalloc

import pytest
import safetensors.torch
import torch

from sae_cli.artifacts.safetensors_header import DTYPES, TensorEntry, read_header
from sae_cli.artifacts.tensors import map_tensor, read_metadata, read_tensors, write_tensors
from sae_cli.errors import JobError
from tests.known import present

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


BITS = re.compile(r"[A-Z]+(\d+)")


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_every_dtype_is_read(tmp_path, dtype):
    n_bytes = 3 * int(present(BITS.match(dtype))[1]) // 8 if dtype != "BOOL" else 3
    header = {"x": {"dtype": dtype, "shape": [3], "data_offsets": [0, n_bytes]}}
    path = file_of(tmp_path / "x", header, b"\0" * n_bytes)
    assert read_header(path).tensors == {"x": TensorEntry(dtype, (3,))}
    assert read_tensors(path)["x"].shape == map_tensor(path, "x").shape == (3,)


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"x": ONE | {"data_offsets": [0, 4]}}, "invalid shape, data type, or offset"),
        ({"x": ONE | {"data_offsets": [8, 0]}}, "invalid offset for tensor `x`"),
        ({"x": ONE | {"data_offsets": [-8, 0]}}, "integer `-8`"),
        ({"x": ONE | {"data_offsets": [0, 8, 8]}}, "invalid length 3"),
        ({"x": ONE | {"data_offsets": [0.0, 8]}}, "floating point"),
        ({"x": ONE | {"dtype": "F33"}}, "unknown variant `F33`"),
        ({"x": ONE | {"dtype": "F4", "shape": [16]}}, "x of unknown dtype 'F4'"),
        ({"x": ONE | {"dtype": []}}, "expected string"),
        ({"x": ONE | {"shape": [-2]}}, "integer `-2`"),
        ({"x": ONE | {"shape": [True]}}, "boolean"),
        ({"x": ONE | {"shape": 2}}, "expected a sequence"),
        ({"x": ONE | {"shape": [1] * 16 + [2]}}, "x of impossible shape"),
        ({"x": ONE | {"shape": [2**32, 2**32]}}, "overflow"),
        ({"x": ONE, "y": ONE | {"shape": [0, 2**61], "data_offsets": [8, 8]}}, "y of impossible shape"),
        ({"x": ONE | {"shape": [10**12]}}, "invalid shape"),
        ({"x": [1]}, "expected string or map"),
        ({"x": ONE, "y": ONE}, "invalid offset for tensor"),
        ({"x": ONE | {"data_offsets": [8, 16]}}, "invalid offset for tensor `x`"),
        ({"x": ONE | {"shape": [4], "data_offsets": [0, 16]}}, "file not fully covered"),
        ({"x": ONE | {"shape": [1], "data_offsets": [0, 4]}}, "file not fully covered"),
        ({}, "file not fully covered"),
        ({"x": ONE, "__metadata__": {"a": 1}}, "expected a string"),
        ({"x": ONE, "__metadata__": []}, "expected a map"),
        ([ONE], "invalid type: sequence"),
        (b'{"x":', "EOF while parsing"),
        (b'{"x": NaN}', "expected value"),
        (b"[" * 100_000, "invalid type: sequence"),
        (b"\xff\xff", "invalid utf-8"),
        (json.dumps({"x" * 5000: [], "y": ONE}).encode(), "invalid length 0"),
        (json.dumps({"x" * 5000: ONE | {"dtype": "F4", "shape": [16]}}).encode(), "found x{200}…;"),
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
    with pytest.raises(JobError, match=r"invalid header length|header too large"):
        read_header(path)


def test_a_file_without_a_header(tmp_path):
    for content in (b"", b"\0" * 7):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(JobError, match="header too small"):
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
        with pytest.raises(JobError, match="header too large"):
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
