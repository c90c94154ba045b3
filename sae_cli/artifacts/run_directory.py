"""Opening, filling and reading run directories.

A run's life: `open_run` claims the directory and writes a manifest with status `running`; files are
added; `finish` writes the manifest last, with status `complete`. After that it never changes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from torch import Tensor

from sae_cli.artifacts.files import (
    FileRecord,
    check_hash,
    check_size,
    damaged,
    read_bytes,
    take_file,
    write_bytes,
    write_json,
)
from sae_cli.artifacts.json_document import read_document
from sae_cli.artifacts.manifest import (
    MANIFEST,
    Manifest,
    Parent,
    git_commit,
    library_versions,
    read_manifest,
    write_manifest,
)
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.safetensors_header import Header, expect, read_header
from sae_cli.artifacts.tensors import map_tensor, read_metadata, read_tensors, write_tensors
from sae_cli.errors import JobError, RequestError

Fact = TypeVar("Fact")


class Run:
    """A run being written. As a context manager it marks the run as failed when an exception leaves it."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._logs: dict[str, list[str]] = {}

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.manifest.status == "running":
            self.fail(str(error) or type(error).__name__)

    def write_tensors(
        self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
    ) -> None:
        self._record(name, write_tensors(self.directory / name, tensors, metadata))

    def write_json(self, name: str, value: Any) -> None:
        self._record(name, write_json(self.directory / name, value))

    def write_text(self, name: str, text: str) -> None:
        self._record(name, write_bytes(self.directory / name, text.encode()))

    def take_file(self, source: Path) -> None:
        """Move a file that a library has written, in a folder of this run, into the run."""
        self._record(source.name, take_file(source, self.directory / source.name))

    def append_line(self, name: str, value: Mapping[str, Any]) -> None:
        """Add one JSON object to a log that can be followed while the run goes on; `finish` seals it."""
        line = json.dumps(value, allow_nan=False)
        self._logs.setdefault(name, []).append(line)
        with open(self.directory / name, "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def add_parent(self, run: FinishedRun) -> None:
        self.manifest.parents.append(run.as_parent())

    def save_progress(self) -> None:
        """Make the files written so far known to a later attempt."""
        write_manifest(self.directory, self.manifest)

    def finish(self, **facts: Any) -> FinishedRun:
        """Write the manifest, last, and close the run for good."""
        for name, lines in self._logs.items():
            self.write_text(name, "\n".join(lines) + "\n")
        self.manifest.facts.update(facts)
        self.manifest.status = "complete"
        write_manifest(self.directory, self.manifest)
        return FinishedRun(self.directory, self.manifest)

    def fail(self, reason: str) -> None:
        """Leave what there is, marked as failed; the same command starts it again."""
        self.manifest.status, self.manifest.reason = "failed", reason
        write_manifest(self.directory, self.manifest)

    def _record(self, name: str, record: FileRecord) -> None:
        self.manifest.files[name] = record


class FinishedRun:
    """A complete run, read-only."""

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

    def as_parent(self) -> Parent:
        content = (self.directory / MANIFEST).read_bytes()
        return Parent(str(self.directory.resolve()), hashlib.sha256(content).hexdigest())

    def _record(self, name: str) -> FileRecord:
        if name not in self.manifest.files:
            held = ", ".join(self.manifest.files)
            raise JobError(f"{self.directory}: a {self.manifest.command} run has no {name}; it has {held}")
        return self.manifest.files[name]


def read_run(path: str | Path, *commands: str) -> FinishedRun:
    """A finished run to read from, of one of these commands where any are named.

    Raises:
        RequestError: there is no such run, or it is of another command than the one needed.
        JobError: it is unfinished or damaged.
    """
    directory = Path(path)
    if not (directory / MANIFEST).is_file():
        raise RequestError(f"{path}: no run here (no {MANIFEST}); give the run directory that a command printed")
    manifest = read_manifest(directory)
    if commands and manifest.command not in commands:
        raise RequestError(f"{path}: expected a {' or '.join(commands)} run, found a {manifest.command} run")
    if manifest.status != "complete":
        reason = f" ({manifest.reason})" if manifest.reason else ""
        raise JobError(f"{path}: the run is not complete: {manifest.status}{reason}; run its command again")
    return FinishedRun(directory, manifest)


def finished_run(directory: Path, settings: Mapping[str, Any], overwrite: bool) -> FinishedRun | None:
    """The complete run of exactly these settings, if the directory holds it.

    Raises:
        RequestError: the directory holds a run of other settings, or something that is no run, and
            `overwrite` was not asked for.
    """
    if not directory.exists():
        return None
    if not (directory / MANIFEST).is_file():
        if any(directory.iterdir()):
            raise RequestError(f"{directory}: not empty and not a run; choose another name= or move it away")
        return None
    if overwrite:
        return None
    manifest = read_manifest(directory)
    if difference := settings_difference(manifest.settings, settings):
        raise RequestError(
            f"{directory}: holds a run with other settings: {'; '.join(difference)}; "
            "choose another name= or replace it with overwrite=true"
        )
    return FinishedRun(directory, manifest) if manifest.status == "complete" else None


def open_run(
    directory: Path,
    command: str,
    settings: Mapping[str, Any],
    keep: Callable[[str], bool] = lambda name: False,
) -> Run:
    """Claim a directory: what an earlier attempt left is removed, but for files that `keep` names.

    Call `finished_run` first; this function replaces whatever run is there.
    """
    kept = _kept_files(directory, settings, keep)
    if not kept and directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        command=command,
        status="running",
        settings=dict(settings),
        settings_hash=settings_hash(settings),
        files=kept,
        versions=library_versions(),
        git_commit=git_commit(),
    )
    write_manifest(directory, manifest)
    return Run(directory, manifest)


def _kept_files(directory: Path, settings: Mapping[str, Any], keep: Callable[[str], bool]) -> dict[str, FileRecord]:
    """Files of an unfinished attempt at the same run that can be gone on from."""
    if not (directory / MANIFEST).is_file():
        return {}
    try:
        manifest = read_manifest(directory)
    except JobError:  # it is being replaced: `finished_run` lets nothing else come here
        return {}
    if manifest.status == "complete" or manifest.settings_hash != settings_hash(settings):
        return {}
    return {
        name: record
        for name, record in manifest.files.items()
        if keep(name) and (directory / name).is_file() and (directory / name).stat().st_size == record.bytes
    }


def settings_hash(settings: Mapping[str, Any]) -> str:
    """sha256 of the settings as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def settings_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: old -> new` for every setting that differs."""
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted({*old, *new})
        if old.get(key, absent) != new.get(key, absent)
    ]
