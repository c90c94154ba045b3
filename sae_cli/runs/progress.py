"""How far an unfinished run is, as its manifest and the names of its files tell it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.manifest import CHECKPOINTS, Manifest
from sae_cli.artifacts.survey import FoundRun
from sae_cli.documents import Document

_CHECKPOINT = re.compile(rf"{CHECKPOINTS}/(\d+)/training\.safetensors")
_SHARD = re.compile(r"activations-(\d+)-of-(\d+)\.safetensors")


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        done: steps or shards that need not be done again.
        total: of all; None where that is not known yet.
        unit: `steps` or `shards`.
        saved: when the last of it was saved, in seconds since 1970; None if there is nothing.
    """

    done: int
    total: int | None
    unit: str
    saved: float | None

    def text(self) -> str:
        """`1,200 of 2,929 steps (41.0%)`."""
        if not self.done:
            return f"no {'checkpoint' if self.unit == 'steps' else 'shard'} yet"
        if not self.total:
            return f"{self.done:,} {self.unit}"
        return f"{self.done:,} of {self.total:,} {self.unit} ({self.done / self.total:.1%})"

    def saved_text(self) -> str:
        """`3 min ago`."""
        return "" if self.saved is None else _ago(time.time() - self.saved)

    def document(self) -> Document:
        saved = None if self.saved is None else datetime.fromtimestamp(self.saved, UTC).isoformat(timespec="seconds")
        return {**self._asdict(), "saved": saved}


def progress_of(found: FoundRun) -> Progress | None:
    """How far a run is; None if it is finished, or begins again when it is stopped."""
    if found.manifest is None or found.status == "complete":
        return None
    reader = _READERS.get(found.manifest.command)
    return reader(found.directory, found.manifest) if reader else None


def _training(directory: Path, manifest: Manifest) -> Progress:
    saved = {int(match[1]): name for name in manifest.files if (match := _CHECKPOINT.fullmatch(name))}
    step = max(saved, default=0)
    tokens, batch = manifest.settings.get("tokens"), manifest.settings.get("train.batch_size")
    steps = tokens // batch if isinstance(tokens, int) and isinstance(batch, int) and batch > 0 else None
    return Progress(step, steps, "steps", _written(directory / saved[step]) if saved else None)


def _harvest(directory: Path, manifest: Manifest) -> Progress:
    shards = {int(match[1]): match for name in manifest.files if (match := _SHARD.fullmatch(name))}
    done = next(number for number in range(len(shards) + 1) if number not in shards)
    if not done:
        return Progress(0, None, "shards", None)
    return Progress(done, int(shards[0][2]), "shards", _written(directory / shards[done - 1][0]))


_READERS: dict[str, Callable[[Path, Manifest], Progress]] = {"train": _training, "harvest": _harvest}
"""Of the commands that go on where they were stopped."""

RESUMABLE = tuple(_READERS)


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _ago(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"
