"""Which runs there are below a folder, whatever state they are in; only their manifests are read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sae_cli.artifacts.lock import Owner, owner_of
from sae_cli.artifacts.manifest import MANIFEST, Manifest, read_manifest
from sae_cli.errors import JobError

EVALUATIONS, SHEETS, BENCHMARKS, PROBES = "eval", "features", "bench", "probe"
"""The folders in a run that the evaluations of its dictionary, the pages of its features, its figures by the formulas
of benchmarks, and its features as classifiers are in."""
SWEEPS = ".sweeps"
"""The folder below `runs_dir` that sweeps keep their books in while they go on."""
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


def run_directories(folder: Path, passed_over: Callable[[str], None] = lambda _: None) -> Iterator[Path]:
    """Every run under a folder, in order of name; runs are not searched for runs inside them.

    Links are followed, after the folders beside them, and no folder is searched twice. What begins with a dot is not
    searched.

    Args:
        folder: where to look; a link or a hidden folder too.
        passed_over: told what is not searched though runs may be there, and why.
    """
    searched: set[tuple[int, int]] = set()
    for directory, subfolders, files in os.walk(
        folder, followlinks=True, onerror=lambda e: _unsearched(e, passed_over)
    ):
        if not _is_new(directory, searched):
            subfolders.clear()
        elif MANIFEST in files:
            subfolders.clear()
            yield Path(directory)
        else:
            for name in sorted({*subfolders, *files}):
                if reason := _reason_to_pass_over(name, os.path.join(directory, name), name in subfolders):
                    passed_over(f"{os.path.join(directory, name)}: not searched for runs: {reason}")
            visible = [name for name in subfolders if not name.startswith(".")]
            subfolders[:] = sorted(visible, key=lambda name: (os.path.islink(os.path.join(directory, name)), name))


def _is_new(directory: str, searched: set[tuple[int, int]]) -> bool:
    """Whether a folder was not searched before, under this name or, by a link, under another; takes note of it."""
    try:
        found = os.stat(directory)
    except OSError:
        return False  # it was removed a moment ago
    new = (key := (found.st_dev, found.st_ino)) not in searched
    searched.add(key)
    return new


def _reason_to_pass_over(name: str, path: str, is_folder: bool) -> str:
    if is_folder and name.startswith(".") and name != SWEEPS:
        return "its name begins with a dot"
    return "a link to nothing" if os.path.islink(path) and not os.path.exists(path) else ""


def _unsearched(error: OSError, passed_over: Callable[[str], None]) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        passed_over(f"{error.filename}: not searched for runs: {error.strerror or error}")


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
    """The runs of these kinds (without any: evaluations, pages, benchmarks, probes) inside a run, in order of name."""
    inside = kinds or (EVALUATIONS, SHEETS, BENCHMARKS, PROBES)
    places = [each for kind in inside for each in run_directories(directory / kind)]
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
