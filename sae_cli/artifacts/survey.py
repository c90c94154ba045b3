"""Which runs there are below a folder, whatever state they are in; only their manifests are read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sae_cli.artifacts.lock import Owner, owner_of
from sae_cli.artifacts.manifest import MANIFEST, Manifest, read_manifest
from sae_cli.errors import JobError

EVALUATIONS, SHEETS = "eval", "features"
"""The folders in a run that the evaluations of its dictionary, and the sheets of its features, are in."""
REPORT = "report.html"
"""The page about a run, or about runs, in the folder that they are in; it is made again at any time."""


@dataclass(frozen=True)
class FoundRun:
    """A folder with a manifest.

    Attributes:
        directory: where it is.
        manifest: what it is; None if that cannot be read.
        problem: why it cannot.
        owner: the living process that works on it.
    """

    directory: Path
    manifest: Manifest | None
    problem: str = ""
    owner: Owner | None = None

    @property
    def status(self) -> str:
        """`complete`, `running`, `stopped` (no process works on it any more), `failed` or `damaged`."""
        if self.manifest is None:
            return "damaged"
        if self.manifest.status == "complete":
            return "complete"
        if self.owner is not None:
            return "running"
        return "stopped" if self.manifest.status == "running" else self.manifest.status


def run_directories(folder: Path) -> Iterator[Path]:
    """Every run under a folder, in order of name; runs are not searched for runs inside them."""
    for directory, subfolders, files in os.walk(folder):
        if MANIFEST in files:
            subfolders.clear()
            yield Path(directory)
        subfolders.sort()


def look_at(directory: Path) -> FoundRun:
    """The run in a directory, as it is now."""
    owner = owner_of(directory)
    try:
        return FoundRun(directory, read_manifest(directory), owner=owner)
    except JobError as error:
        return FoundRun(directory, None, str(error), owner)
    except OSError as error:
        return FoundRun(directory, None, f"{directory / MANIFEST}: cannot be read: {error.strerror or error}", owner)


def measurements_in(directory: Path, *kinds: str) -> list[FoundRun]:
    """The runs of these kinds (without any: the evaluations, then the sheets) inside a run, in order of name."""
    places = [each for kind in kinds or (EVALUATIONS, SHEETS) for each in run_directories(directory / kind)]
    return [look_at(each) for each in places]


def size_of(directory: Path) -> int:
    """Bytes of all files in a directory; of those that are removed meanwhile, none."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total
