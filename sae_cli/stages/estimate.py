"""What a job will take, said before it begins; too little disk space is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

from sae_cli import console
from sae_cli.errors import JobError


def announce(disk: int = 0, memory: int = 0, seconds: float | None = None) -> None:
    """Log an estimate: bytes on disk, bytes of memory, seconds."""
    parts = [f"disk {_size(disk)}", f"memory {_size(memory)}"]
    if seconds is not None:
        parts.append(f"time {_duration(seconds)}")
    console.log("estimate: " + ", ".join(parts))


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
