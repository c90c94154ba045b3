"""What a job will take, said before it begins; too little disk space is refused, too little memory is said."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sae_cli.errors import JobError
from sae_cli.terminal import console


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
    console.log("estimate: " + ", ".join([f"disk {size(disk)}", f"memory {size(memory)}", *time]))


def require_disk(directory: Path, needed: int) -> None:
    """Refuse a job that would fill the disk.

    Raises:
        JobError: the file system of `directory` has less room than needed.
    """
    existing = next(folder for folder in (directory, *directory.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise JobError(
            f"{directory}: expected {size(needed)} of free disk space, found {size(free)}; "
            "free some, lower tokens=, or choose another runs_dir="
        )


def expect_memory(needed: int) -> None:
    """Say so where a job will need more memory than there is; `expected_memory` remembers how much that was."""
    _expected.memory = needed
    available = available_memory()
    if available is not None and needed > available:
        console.warn(
            f"about {size(needed)} of memory will be needed, found {size(available)} available: the job may be "
            "stopped by the system; lower what its settings hold in memory, or use a larger machine"
        )


def expected_memory() -> int:
    """Bytes that the job begun last said it will need; 0 before any has."""
    return _expected.memory


@dataclass
class _Expected:
    memory: int = 0


_expected = _Expected()

_MEMINFO, _CGROUPS, _OWN_CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def available_memory(meminfo: Path = _MEMINFO, cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int | None:
    """Bytes that can be had without swapping, within the limits of the process's control groups; None off Linux."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _text(meminfo), re.MULTILINE)
    of_machine = [int(found[1]) * 1024] if found else []
    return min([*of_machine, *_left_in_cgroups(cgroups, own)], default=None)


def _left_in_cgroups(cgroups: Path, own: Path) -> Iterator[int]:
    """What each group that the process is in leaves it, for both versions of the kernel's interface."""
    for line in _text(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            root, limit, usage = (
                (cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes")
                if controllers
                else (cgroups, "memory.max", "memory.current")
            )
            folder = root / path.lstrip("/")
            for group in (folder, *folder.parents):
                most, used = _text(group / limit).strip(), _text(group / usage).strip()
                if most.isdigit() and used.isdigit():
                    cache = re.search(r"^inactive_file (\d+)", _text(group / "memory.stat"), re.MULTILINE)
                    yield max(0, int(most) - int(used) + (int(cache[1]) if cache else 0))
                if group == root:
                    break


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def size(n_bytes: int) -> str:
    """As it is shown."""
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
