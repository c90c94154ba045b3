"""Who may read what is written, and what is said where reading is not allowed."""

from __future__ import annotations

import builtins
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sae_cli.artifacts.files import take_file, unwritable, write_bytes, write_json
from sae_cli.artifacts.safetensors_header import read_header
from sae_cli.artifacts.tensors import map_tensor, read_metadata, read_tensors, write_tensors
from sae_cli.cli.errors import explain
from sae_cli.config.stored import read_config
from sae_cli.errors import JobError, denied


@pytest.fixture(params=[(0o002, 0o664), (0o027, 0o640), (0o077, 0o600), (0o022, 0o644)])
def mode(request: pytest.FixtureRequest) -> Iterator[int]:
    umask, expected = request.param
    before = os.umask(umask)
    yield expected
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_written_files_obey_the_umask(tmp_path: Path, mode: int) -> None:
    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(2)})
    write_bytes(tmp_path / "b.bin", b"b")
    write_json(tmp_path / "c.json", {})
    (tmp_path / "private").write_bytes(b"d")
    (tmp_path / "private").chmod(0o600)
    take_file(tmp_path / "private", tmp_path / "d.safetensors")
    assert {path.name: mode_of(path) for path in tmp_path.iterdir()} == dict.fromkeys(
        ("a.safetensors", "b.bin", "c.json", "d.safetensors"), mode
    )


def test_a_file_that_is_written_again_obeys_the_umask(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.safetensors"
    path.touch(0o600)
    write_tensors(path, {"x": torch.zeros(2)})
    assert mode_of(path) == mode


@pytest.fixture
def forbidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A safetensors file that cannot be opened; by hand, because the tests may be run by a user who may do all."""
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.zeros(2)})
    real = builtins.open

    def refuse(file: Any, *args: Any, **options: Any) -> Any:
        if str(file).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return real(file, *args, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    return path


@pytest.mark.parametrize("read", [read_header, read_tensors, read_metadata, lambda path: map_tensor(path, "x")])
def test_a_file_that_may_not_be_read_is_not_called_damaged(forbidden: Path, read: Any) -> None:
    with pytest.raises(JobError) as caught:
        read(forbidden)
    assert str(caught.value).startswith(f"{forbidden}: Permission denied; ask its owner")
    assert "overwrite" not in str(caught.value)


def test_a_configuration_that_may_not_be_read(forbidden: Path) -> None:
    with pytest.raises(JobError, match=r"config\.yaml: Permission denied; ask its owner"):
        read_config(forbidden.parent, "train")


def test_a_refusal_below_another_error_is_named_with_its_own_path() -> None:
    inner = PermissionError(errno.EACCES, "Permission denied", "/home/cache")
    outer = ValueError("no records")
    outer.__cause__ = inner
    assert str(denied(outer, "text.jsonl")).startswith("/home/cache: Permission denied")
    assert denied(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None


def test_what_the_command_line_says() -> None:
    message, code = explain(PermissionError(errno.EACCES, "Permission denied", "/runs/manifest.json"))
    assert (message.partition(";")[0], code) == ("/runs/manifest.json: Permission denied", 1)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_place_that_may_not_be_written_is_named_with_another_to_choose(number: int) -> None:
    error = unwritable(Path("/runs/a"), OSError(number, os.strerror(number)))
    assert "get write access" in str(error) and "runs_dir=" in str(error)
