"""A run as it lies in a repository of the hub: what of it is pushed, and what of a repository is a run.

At the top of the repository are the files of the run as its manifest lists them, in `eval/` its finished evaluations,
each with its manifest, and beside them what is for others: `README.md`, and a folder that another tool reads. Pages of
features are left out: they hold the text that features fire on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from sae_cli.artifacts.files import FileRecord
from sae_cli.artifacts.manifest import MANIFEST, read_manifest
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.artifacts.survey import EVALUATIONS, measurements_in
from sae_cli.config.location import HUB
from sae_cli.errors import JobError, RequestError
from sae_cli.runs.dictionary_run import DICTIONARY_COMMANDS
from sae_cli.runs.file_names import DEFAULT, EVAL_FILE

README = "README.md"
SAELENS = "saelens"
"""The folder that SAELens reads."""

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Address(NamedTuple):
    """A repository of the hub and, where one was given, the revision."""

    name: str
    revision: str | None

    @classmethod
    def of(cls, text: str) -> Address:
        """What `hf:org/name[@revision]` stands for; a `RequestError` where the text is something else."""
        address, at, revision = text.removeprefix(HUB).partition("@")
        parts = address.strip("/").split("/")
        if not text.startswith(HUB) or len(parts) != 2 or not all(map(_PART.fullmatch, parts)) or (at and not revision):
            raise RequestError(f"{text}: expected an address on the hub, as {HUB}org/name or {HUB}org/name@revision")
        return cls("/".join(parts), revision or None)


class Part(NamedTuple):
    """A run of those that lie in a repository together.

    Attributes:
        folder: in the repository; empty for the run itself.
        run: it.
    """

    folder: str
    run: FinishedRun

    def files(self) -> Iterator[tuple[str, FileRecord | None]]:
        """Its files by their names in its own folder, the manifest, which lists the others, first."""
        yield MANIFEST, None
        yield from self.run.manifest.files.items()

    def placed(self, name: str) -> str:
        """One of its files by its name in the repository."""
        return f"{self.folder}/{name}" if self.folder else name


def parts_of(run: FinishedRun) -> list[Part]:
    """A run and its finished evaluations, once each file was compared with its manifest.

    Raises:
        JobError: one is damaged.
    """
    parts = [Part("", run)]
    for each in measurements_in(run.directory, EVALUATIONS):
        folder = each.directory.relative_to(run.directory).as_posix()
        inside(run.directory, folder)
        if each.manifest is None:
            raise JobError(each.problem)
        if each.status == "complete":
            parts.append(Part(folder, FinishedRun(each.directory, each.manifest)))
    for each in parts:
        each.run.check_files(verify=True)
    return parts


def files_of(parts: Sequence[Part]) -> dict[str, Path]:
    """All files of these runs by their names in a repository, the figures of the default evaluation at its top too."""
    found = {part.placed(name): part.run.directory / name for part in parts for name, _ in part.files()}
    default = f"{EVALUATIONS}/{DEFAULT}/{EVAL_FILE}"
    return found | ({EVAL_FILE: found[default]} if default in found else {})


def read_published(folder: Path, name: str, what: str) -> Part:
    """A run that was downloaded, or as much of it as its manifest.

    Args:
        folder: that the files of the repository are in.
        name: of the run's folder in it; empty for the one at the top.
        what: the repository, for messages.

    Raises:
        RequestError: the repository holds a run without a dictionary.
        JobError: the manifest is damaged, or the run is not finished.
    """
    manifest = read_manifest(folder / name)
    expected = ("eval",) if name else DICTIONARY_COMMANDS
    if manifest.command not in expected:
        raise RequestError(
            f"{what}: expected a {' or '.join(expected)} run{f' in {name}' if name else ''}, found a "
            f"{manifest.command} run"
        )
    if manifest.status != "complete":
        raise JobError(f"{what}: expected a finished run, found one that is {manifest.status}; ask who has pushed it")
    return Part(name, FinishedRun(folder / name, manifest))


def evaluations_in(names: Sequence[str]) -> list[str]:
    """The folders of the evaluations among the files of a repository."""
    folders = (PurePosixPath(name) for name in names if name.startswith(f"{EVALUATIONS}/"))
    return sorted(each.parent.as_posix() for each in folders if each.name == MANIFEST)
