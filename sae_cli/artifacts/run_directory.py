"""Opening and filling run directories.

A run's life: `open_run` locks the directory and writes a manifest with status `running`; files are
added; `finish` writes the manifest last, with status `complete`. After that it never changes.

At every moment the manifest that is there says truly what can be relied on: a file enters it when it is on the disk,
and is removed when it has left it. So a run that is stopped, however, is resumed from `save_progress`'s last
call, or begun again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

import torch
from torch import Tensor

from sae_cli.artifacts.files import (
    FileRecord,
    damaged,
    is_temporary,
    link_file,
    take_file,
    unwritable,
    write_bytes,
    write_file,
    write_json,
)
from sae_cli.artifacts.lock import LOCK, RunLock, check_free
from sae_cli.artifacts.manifest import (
    CHECKPOINTS,
    MANIFEST,
    Manifest,
    git_commit,
    library_versions,
    read_manifest,
    write_manifest,
)
from sae_cli.artifacts.spill import Spilled, write_spilled
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun, just_worked_on
from sae_cli.artifacts.tensors import write_tensors
from sae_cli.documents import Facts
from sae_cli.errors import JobError, RequestError

LogLine: TypeAlias = Mapping[str, int | float | str | None]
"""What is said on one line of a log, by its name."""


class Run:
    """A run being written, by one process. As a context manager it marks the run as failed when an exception leaves
    it, and gives the directory free."""

    def __init__(self, directory: Path, manifest: Manifest, lock: RunLock) -> None:
        self.directory = directory
        self.manifest = manifest
        self._lock = lock
        self._logs: dict[str, list[str]] = {}
        self._known = replace(manifest, files=dict(manifest.files), facts=dict(manifest.facts))

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self.manifest.status == "running":
                with suppress(JobError):  # on a full disk it stays what it was, `running`, without a process
                    self.fail(str(error) or type(error).__name__)
        finally:
            self._lock.release()

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor], metadata: Facts | None = None) -> None:
        self._record(name, write_tensors(self.directory / name, tensors, metadata))

    def write_spilled(self, name: str, tensors: Mapping[str, Spilled]) -> None:
        """A safetensors file of tensors that are not held in memory."""
        self._record(name, write_spilled(self.directory / name, tensors))

    def write_pickle(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """For tools that know no other files: named tensors as PyTorch saves them."""
        plain = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
        self._record(name, write_file(self.directory / name, lambda temporary: torch.save(plain, temporary)))

    def write_json(self, name: str, value: object) -> None:
        self._record(name, write_json(self.directory / name, value))

    def write_text(self, name: str, text: str) -> None:
        self._record(name, write_bytes(self.directory / name, text.encode()))

    def take_file(self, source: Path) -> None:
        """Move a file that a library has written, in a folder of this run, into the run."""
        self._record(source.name, take_file(source, self.directory / source.name))

    def link_file(self, name: str, source: Path, record: FileRecord) -> None:
        """Take a file that another run has written, without a copy where the file system allows it.

        Raises:
            OSError: it does not, or the file is gone.
        """
        link_file(source, self.directory / name)
        self._record(name, record)

    def note_file(self, name: str, record: FileRecord) -> None:
        """Take in a file that has been written to its place by itself."""
        self._record(name, record)

    def append_line(self, name: str, value: LogLine) -> None:
        """Add one JSON object to a log that can be followed while the run goes on; `finish` seals it."""
        line = json.dumps(value, allow_nan=False)
        self._logs.setdefault(name, []).append(line)
        try:
            with open(self.directory / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise unwritable(self.directory / name, error) from error

    def resume_log(self, name: str) -> None:
        """Take up a log where `save_progress` was last called; what was written after that is cut off."""
        record = self.manifest.files[name]
        content = (self.directory / name).read_bytes()[: record.bytes]
        if (found := hashlib.sha256(content).hexdigest()) != record.sha256:
            raise damaged(self.directory / name, f"sha256 {record.sha256[:16]}…", f"{found[:16]}…")
        self.write_text(name, content.decode())
        self._logs[name] = content.decode().splitlines()

    def log_lines(self, name: str) -> list[LogLine]:
        """The lines of a log so far, those of earlier attempts that were resumed too."""
        return [json.loads(line) for line in self._logs.get(name, ())]

    def save_progress(self, without: Iterable[str] = ()) -> None:
        """Make what was written so far known to a later attempt; files `without` which it goes on are removed."""
        for name, lines in self._logs.items():
            self.write_text(name, _log(lines))
        gone = tuple(without)
        files = {name: record for name, record in self.manifest.files.items() if name not in gone}
        known = replace(self.manifest, files=files, facts=dict(self.manifest.facts))
        write_manifest(self.directory, known)
        self.manifest.files, self._known = dict(files), known
        self._remove(gone)

    def finish(self, without: Iterable[str] = (), /, **facts: object) -> FinishedRun:
        """Write the manifest, last, and close the run for good, without these files."""
        self.manifest.facts.update(facts)
        self.manifest.status = "complete"
        try:
            self.save_progress(without)
        except BaseException:
            self.manifest.status = "running"
            raise
        return FinishedRun(self.directory, self.manifest)

    def fail(self, reason: str) -> None:
        """Leave what `save_progress` last made known, marked as failed; the same command resumes it."""
        write_manifest(self.directory, replace(self._known, status="failed", reason=reason))

    def _record(self, name: str, record: FileRecord) -> None:
        self.manifest.files[name] = record

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.directory / name
            with suppress(OSError):  # what stays is in nobody's way: no manifest lists it
                path.unlink()
            with suppress(OSError):  # until the first folder that something else is in
                for folder in path.relative_to(self.directory).parents[:-1]:
                    (self.directory / folder).rmdir()


def finished_run(directory: Path, settings: Facts, overwrite: bool) -> FinishedRun | None:
    """The complete run of exactly these settings, if the directory holds it.

    Raises:
        RequestError: the directory holds a run of other settings, or something that is no run, and
            `overwrite` was not asked for.
        BusyError: another process is making it.
    """
    if not _is_begun(directory) or overwrite:
        return None
    manifest = read_manifest(directory)
    if difference := settings_difference(manifest.settings, settings):
        raise RequestError(
            f"{directory}: holds a run with other settings: {'; '.join(difference)}; "
            "choose another name= or replace it with overwrite=true"
        )
    if manifest.status == "complete":
        _tidy(directory, manifest)
        return FinishedRun(directory, manifest)
    check_free(directory)
    return None


def _is_begun(directory: Path) -> bool:
    """Whether there is a run, finished or not; a `RequestError` if there is something else."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise RequestError(f"{directory}: expected a run directory, found a file; choose another name= or move it away")
    before = [path.name for path in directory.iterdir()]  # another process may begin a run just after this
    if (directory / MANIFEST).is_file():
        return True
    if not all(map(_is_own, before)):
        raise RequestError(f"{directory}: not empty and not a run; choose another name= or move it away")
    return False


def unfinished_run(directory: Path, overwrite: bool) -> UnfinishedRun | None:
    """What an earlier attempt at a run has left; call `finished_run` first."""
    if overwrite or not (directory / MANIFEST).is_file():
        return None
    return UnfinishedRun(directory, read_manifest(directory))


def open_run(
    directory: Path,
    command: str,
    settings: Facts,
    overwrite: bool = False,
    parents: Iterable[FinishedRun] = (),
    attempt: UnfinishedRun | None = None,
    keep: Iterable[str] = (),
) -> Run:
    """Lock a directory and begin a run there; what it held is removed, but for files that are kept.

    Args:
        directory: made if it is missing.
        command: `harvest`, `train`, `eval` …
        settings: every result-affecting setting, flattened.
        overwrite: replace a finished run too.
        parents: the runs that are read.
        attempt: an earlier one.
        keep: its files that are resumed from.

    Raises:
        BusyError: another process works on it, or did since `attempt` was read.
        JobError: it cannot be written.
    """
    lock = RunLock(directory)
    try:
        _check_unchanged(directory, settings, overwrite, attempt)
        kept = {} if attempt is None else {name: attempt.manifest.files[name] for name in keep}
        manifest = Manifest(
            command=command,
            status="running",
            settings=dict(settings),
            settings_hash=settings_hash(settings),
            facts=dict(attempt.manifest.facts) if kept and attempt else {},
            parents=[parent.as_parent() for parent in parents],
            files=kept,
            versions=library_versions(),
            git_commit=git_commit(),
        )
        write_manifest(directory, manifest)
        _clear(directory, (MANIFEST, LOCK, *kept))
    except BaseException:
        lock.release()
        raise
    return Run(directory, manifest, lock)


def _check_unchanged(directory: Path, settings: Facts, overwrite: bool, attempt: UnfinishedRun | None) -> None:
    """Under the lock: refuse if another process has worked on the run after it was looked at."""
    if finished_run(directory, settings, overwrite):
        raise just_worked_on(directory)
    if attempt:
        attempt.check_unchanged()


def _clear(directory: Path, kept: Iterable[str], below: str = "") -> None:
    """Remove all but these files from a run, or from a folder in it."""
    wanted = {directory / name for name in kept}
    for folder, subfolders, files in os.walk(directory / below, topdown=False):
        for name in files:
            if (path := Path(folder, name)) not in wanted:
                path.unlink()
        for name in subfolders:
            path = Path(folder, name)
            if path.is_symlink():
                path.unlink()
            else:
                with suppress(OSError):  # not empty
                    path.rmdir()


def _tidy(directory: Path, manifest: Manifest) -> None:
    """Remove what a process has left that was stopped after it had finished the run."""
    if not _left_over(directory, manifest):
        return
    with suppress(JobError, OSError):  # somebody holds it, or it cannot be removed: it is in nobody's way
        lock = RunLock(directory)
        try:
            if read_manifest(directory) == manifest:  # and no other process has begun to replace it
                _clear(directory, manifest.files, below=CHECKPOINTS)
                (directory / CHECKPOINTS).rmdir()
        finally:
            lock.release()


def _left_over(directory: Path, manifest: Manifest) -> bool:
    listed = [directory / name for name in manifest.files if name.startswith(CHECKPOINTS)]
    wanted = {path for name in listed for path in (name, *name.parents)}
    checkpoints = directory / CHECKPOINTS
    found = {*directory.glob(LOCK), *directory.glob(CHECKPOINTS), *checkpoints.rglob("*")}
    return not found <= wanted


def _is_own(name: str) -> bool:
    """Whether a process that was stopped before its run began may have left this."""
    return name == LOCK or is_temporary(name)


def _log(lines: list[str]) -> str:
    return "\n".join(lines) + "\n" if lines else ""


def settings_hash(settings: Facts) -> str:
    """sha256 of the settings as canonical JSON."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def settings_difference(old: Facts, new: Facts) -> list[str]:
    """`key: old -> new` for every setting that differs."""
    absent = "(absent)"
    return [
        f"{key}: {old.get(key, absent)} -> {new.get(key, absent)}"
        for key in sorted({*old, *new})
        if old.get(key, absent) != new.get(key, absent)
    ]
