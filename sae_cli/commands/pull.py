"""`sae pull`: a run that `sae push` has left on the hub, as it was, byte by byte."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sae_cli.artifacts.files import ANOTHER_PLACE, check_writable, sync_folder, write_file
from sae_cli.artifacts.hub import Repository, fetched, repository, shown
from sae_cli.artifacts.lock import LOCK, RunLock, check_free
from sae_cli.artifacts.manifest import MANIFEST, read_manifest
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.run_directory import settings_difference
from sae_cli.artifacts.survey import EVALUATIONS
from sae_cli.config.naming import last_part, name_parts
from sae_cli.dictionaries.files import DICTIONARY_FILE, load_dictionary
from sae_cli.errors import JobError, RequestError
from sae_cli.jobs.result import StageResult
from sae_cli.runs.dictionary_run import read_dictionary_run
from sae_cli.runs.file_names import DEFAULT, EVAL_FILE
from sae_cli.runs.inventory import readable_bytes
from sae_cli.runs.published import Address, Part, evaluations_in, read_published
from sae_cli.terminal import console

_DEFAULT = f"{EVALUATIONS}/{DEFAULT}"
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class PullRequest:
    """What is asked for.

    Attributes:
        source: the repository and its revision.
        runs_dir: where runs live.
        name: the run directory, relative to `runs_dir`; None for one made of the address.
        overwrite: replace what is there.
    """

    source: Address
    runs_dir: Path
    name: str | None = None
    overwrite: bool = False

    def directory(self) -> Path:
        """Where the run will be; a `RequestError` where the name is none."""
        if self.name is not None:
            return self.runs_dir.joinpath(*name_parts("name", self.name))
        revision = f"-{last_part(self.source.revision)}" if self.source.revision else ""
        return self.runs_dir / "pull" / f"{self.source.name.replace('/', '-')}{revision}"


def run(request: PullRequest) -> StageResult:
    """Pull a run; one that is there already is found, and given the evaluations that it lacks.

    Raises:
        RequestError: there is no such repository, it holds no run with a dictionary, or something else is in its place.
        JobError: a file is not what the manifest says, or the hub cannot be reached; then no run is there.
    """
    what, directory = shown(*request.source), request.directory()
    of = repository(*request.source)
    if MANIFEST not in of.files:
        found = ", ".join(of.files[:_MOST_NAMED]) or "no files"
        raise RequestError(
            f"{what}: expected a run that sae push has left, found {found}; a dictionary of another tool is for "
            f"sae import {what}"
        )
    top = read_published(fetched(of, [MANIFEST]), "", what)
    there = _is_there(directory, top, what, request.overwrite)
    check_writable(directory, ANOTHER_PLACE)
    evaluations = [
        read_published(fetched(of, [f"{folder}/{MANIFEST}"]), folder, what) for folder in evaluations_in(of.files)
    ]
    if there:
        console.log(f"already finished: {directory}")
        taken = [each for each in evaluations if not (inside(directory, each.folder) / MANIFEST).is_file()]
        for each in taken:
            with _new(inside(directory, each.folder)) as place:
                _copy(of, Part("", each.run), each.folder, place)
    else:
        taken = [top, *evaluations]
        with _new(directory) as place:
            for each in taken:
                _copy(of, each, "", place)
            _check(place, what)
    _copy_default(directory)
    return _result(of, directory, taken)


def _is_there(directory: Path, top: Part, what: str, overwrite: bool) -> bool:
    """Whether the run is in its place already.

    Raises:
        RequestError: something else is there, and it is not to be replaced.
        BusyError: another process works on it.
    """
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    if not directory.is_dir():
        raise RequestError(f"{directory}: expected a run directory, found a file; choose another name= or move it away")
    if not (directory / MANIFEST).is_file():
        raise RequestError(f"{directory}: not empty and not a run; choose another name= or move it away")
    check_free(directory)
    if overwrite:
        return False
    if (directory / MANIFEST).read_bytes() == (top.run.directory / MANIFEST).read_bytes():
        return True
    difference = settings_difference(read_manifest(directory).settings, top.run.manifest.settings)
    raise RequestError(
        f"{directory}: holds another run than {what}: "
        f"{'; '.join(difference) or 'one of the same settings, made at another time'}; "
        "choose another name= or replace it with overwrite=true"
    )


@contextmanager
def _new(directory: Path) -> Iterator[Path]:
    """A folder to be filled, which takes its place when that is done; nothing is left of one that is not.

    Raises:
        BusyError: another process fills it.
    """
    place = directory.with_name(f".{directory.name}.pull")
    lock = RunLock(place)
    try:
        _clear(place, keep=LOCK)  # of what a process has left that was killed
        yield place
        lock.release()
        if directory.exists():
            before = directory.with_name(f".{directory.name}.before")
            shutil.rmtree(before, ignore_errors=True)
            os.rename(directory, before)
            os.rename(place, directory)
            shutil.rmtree(before)
        else:
            os.rename(place, directory)
        sync_folder(directory.parent)
    finally:
        lock.release()
        shutil.rmtree(place, ignore_errors=True)


def _clear(folder: Path, keep: str) -> None:
    for each in folder.iterdir():
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        elif each.name != keep:
            each.unlink()


def _copy(of: Repository, part: Part, folder: str, place: Path) -> None:
    """Bring the files of a run from the cache of the hub to a folder, each compared with the manifest.

    Args:
        of: the repository.
        part: the run, and its folder below `place`.
        folder: of the run in the repository, where that is another one.
        place: an empty folder.

    Raises:
        JobError: a file is missing, or is not what the manifest says.
    """
    what, there = shown(of.name, of.revision), Part(folder or part.folder, part.run)
    names = {there.placed(name): (part.placed(name), record) for name, record in part.files()}
    if missing := sorted({*names} - {*of.files}):
        raise JobError(f"{what}: expected {missing[0]}, which its manifest lists, found none there; push it again")
    source = fetched(of, list(names))
    for name, (placed, record) in names.items():
        cached = source / name
        found = write_file(place / placed, lambda temporary, cached=cached: shutil.copyfile(cached, temporary))
        if record is not None and found != record:
            raise JobError(
                f"{what}: {name}: expected {record.bytes:,} bytes of sha256 {record.sha256[:16]}…, as its manifest "
                f"says, found {found.bytes:,} of {found.sha256[:16]}…; remove {cached.resolve()} and pull it again, or "
                "ask who has pushed it"
            )


def _check(place: Path, what: str) -> None:
    """See that what was pulled is a dictionary that works; a `JobError` where it is not."""
    try:
        load_dictionary(read_dictionary_run(place).run)
    except JobError as error:
        said = str(error).replace(f"{place}/", "")
        raise JobError(f"{what}: expected a dictionary in {DICTIONARY_FILE}, found one that is none: {said}") from error


def _copy_default(directory: Path) -> None:
    """The figures of the default evaluation beside the dictionary, as an evaluation leaves them."""
    figures = directory / _DEFAULT / EVAL_FILE
    if figures.is_file() and not (directory / EVAL_FILE).exists():
        write_file(directory / EVAL_FILE, lambda temporary: shutil.copyfile(figures, temporary))


def _result(of: Repository, directory: Path, taken: Sequence[Part]) -> StageResult:
    source = read_dictionary_run(directory)
    files = [record for each in taken for _, record in each.files() if record is not None]
    shape = source.run.read_header(DICTIONARY_FILE).tensors["W_enc"].shape
    rows = [
        ("from", f"{shown(of.name)}@{of.commit}"),
        ("dictionary", f"{source.architecture()}, {shape[0]:,} features of width {shape[1]:,}"),
        *([("of", f"{source.model().path} {source.site().label}")] if source.card.model and source.card.wiring else []),
        ("pulled", f"{len(files)} files, {readable_bytes(sum(each.bytes for each in files))}, as their manifests say"),
        ("run", str(directory)),
    ]
    document = {
        "run": str(directory),
        "command": "pull",
        "repository": of.name,
        "commit": of.commit,
        "pulled": [each.folder or "." for each in taken],
    }
    return StageResult(directory=directory, title="pull", document=document, table=rows)
