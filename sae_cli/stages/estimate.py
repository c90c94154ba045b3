"""What a job will take, said before it begins; too little disk space is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sae_cli import console
from sae_cli.errors import JobError


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What one job will take.

    Attributes:
        disk: bytes that it will write.
        memory: bytes that it will hold.
        reading: seconds for its stream, which other jobs may share; 0 where it is not known.
        work: seconds for what it does with it.
    """

    disk: int = 0
    memory: int = 0
    reading: float = 0.0
    work: float = 0.0


def announce(estimates: Iterable[Estimate]) -> None:
    """Log what jobs that go on side by side will take together."""
    jobs = list(estimates)
    disk, memory = sum(job.disk for job in jobs), sum(job.memory for job in jobs)
    seconds = max(job.reading for job in jobs) + sum(job.work for job in jobs)
    time = [f"time {_duration(seconds)}"] if seconds else []
    console.log("estimate: " + ", ".join([f"disk {_size(disk)}", f"memory {_size(memory)}", *time]))


def require_disk(directory: Path, needed: int) -> None:
    """Refuse a job that would fill the disk.

    Raises:
        JobError: the file system of `directory` has less room than needed.
    """
    existing = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise JobError(
            f"{directory}: expected {_size(needed)} of free disk space, found {_size(free)}; "
            "free some, lower tokens=, or choose another runs_dir="
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
