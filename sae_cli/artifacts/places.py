"""Places within a run directory: a link in a run that somebody sent must not lead out of it."""

from __future__ import annotations

from pathlib import Path

from sae_cli.errors import JobError


def inside(directory: Path, name: str) -> Path:
    """The file or folder `name` of a run directory, which need not exist.

    Raises:
        JobError: it is outside the directory, or a symbolic link makes it so.
    """
    path = directory / name
    try:
        there = path.resolve().is_relative_to(directory.resolve())
    except (RuntimeError, OSError):  # a loop of links
        there = False
    if not there:
        raise JobError(f"{path}: expected a place within the run directory, found a link that leaves it; remove it")
    return path
