"""Runs on the disk, read-only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from sae_cli.artifacts.files import FileRecord, check_hash, check_size, damaged, read_bytes
from sae_cli.artifacts.json_document import read_document
from sae_cli.artifacts.manifest import MANIFEST, Manifest, Parent, read_manifest
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.safetensors_header import Header, expect, read_header
from sae_cli.artifacts.tensors import map_tensor, read_metadata, read_tensors
from sae_cli.errors import BusyError, JobError, RequestError

Fact = TypeVar("Fact")


class StoredRun:
    """A run on the disk, read-only."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest

    def check_files(self, verify: bool) -> None:
        """Compare every file with the manifest: the size always, the hash with `verify`.

        Raises:
            JobError: a file is missing, or is not what was written.
        """
        for name, record in self.manifest.files.items():
            check_size(inside(self.directory, name), record)
        if verify:
            with ThreadPoolExecutor() as threads:  # hashing lets other threads run
                checks = [
                    threads.submit(check_hash, self.directory / name, record)
                    for name, record in self.manifest.files.items()
                ]
                for check in checks:
                    check.result()

    def check_file(self, name: str, verify: bool) -> None:
        """Compare one file with the manifest; as `check_files`."""
        check_size(self.directory / name, self._record(name))
        if verify:
            check_hash(self.directory / name, self._record(name))

    def read_tensors(self, name: str, verify: bool = True) -> dict[str, Tensor]:
        return read_tensors(inside(self.directory, name), self._record(name), verify)

    def map_tensor(self, name: str, tensor: str) -> Tensor:
        """A tensor whose bytes are read when they are looked at; call `check_files` first."""
        check_size(inside(self.directory, name), self._record(name))
        return map_tensor(self.directory / name, tensor)

    def read_json(self, name: str) -> Any:
        return read_document(inside(self.directory, name), self._record(name))

    def read_bytes(self, name: str, verify: bool = True) -> bytes:
        return read_bytes(inside(self.directory, name), self._record(name), verify)

    def read_metadata(self, name: str) -> dict[str, Any]:
        return read_metadata(inside(self.directory, name))

    def read_header(self, name: str) -> Header:
        return read_header(inside(self.directory, name))

    def expect(self, name: str, layout: Mapping[str, str], others: bool = False) -> dict[str, int]:
        """Compare the header of a file with the tensors that it should have (`safetensors_header.expect`)."""
        return expect(self.directory / name, self.read_header(name), layout, others)

    def fact(self, name: str, kind: type[Fact]) -> Fact:
        """One of the facts that the command found out.

        Raises:
            JobError: the manifest does not have it, or as another type.
        """
        value = self.manifest.facts.get(name)
        if not isinstance(value, kind):
            raise damaged(self.directory / MANIFEST, f"the fact {name} ({kind.__name__})", repr(value))
        return value

    def file_names(self, prefix: str) -> list[str]:
        """The files whose name begins so, sorted."""
        return sorted(name for name in self.manifest.files if name.startswith(prefix))

    def _record(self, name: str) -> FileRecord:
        if name not in self.manifest.files:
            held = ", ".join(self.manifest.files)
            raise JobError(f"{self.directory}: a {self.manifest.command} run has no {name}; it has {held}")
        return self.manifest.files[name]


class UnfinishedRun(StoredRun):
    """What an earlier attempt has left: the files of its manifest can be resumed from, by one process."""

    def check_unchanged(self) -> None:
        """Refuse if another process has resumed it since it was read.

        Raises:
            BusyError: one has.
        """
        if read_manifest(self.directory) != self.manifest:
            raise just_worked_on(self.directory)


class FinishedRun(StoredRun):
    """A complete run."""

    def as_parent(self) -> Parent:
        content = (self.directory / MANIFEST).read_bytes()
        return Parent(str(self.directory.resolve()), hashlib.sha256(content).hexdigest())


def just_worked_on(directory: Path) -> BusyError:
    return BusyError(f"{directory}: another process has just worked on this run; run the command again")


def read_run(path: str | Path, *commands: str) -> FinishedRun:
    """A finished run to read from, of one of these commands where any are named.

    Raises:
        RequestError: there is no such run, or it is of another command than the one needed.
        JobError: it is unfinished or damaged.
    """
    directory = Path(os.path.expanduser(path))
    if not (directory / MANIFEST).is_file():
        raise RequestError(f"{path}: no run here (no {MANIFEST}); give the run directory that a command printed")
    manifest = read_manifest(directory)
    if commands and manifest.command not in commands:
        raise RequestError(f"{path}: expected a {' or '.join(commands)} run, found a {manifest.command} run")
    if manifest.status != "complete":
        reason = f" ({manifest.reason})" if manifest.reason else ""
        raise JobError(f"{path}: the run is not complete: {manifest.status}{reason}; run its command again")
    return FinishedRun(directory, manifest)
