"""What a tracker is, and what it is told about a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from sae_cli.documents import Facts

FOLDER = ".trackers"


@runtime_checkable
class Tracker(Protocol):
    """Another tool's record of one run.

    Attributes:
        failures: what its methods may raise; training goes on without it.
        has: the last step that it has from earlier attempts; 0 for none.
    """

    failures: tuple[type[Exception], ...]
    has: int

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Take a line of the curve."""
        ...

    def close(self, failed: bool) -> None:
        """Nothing more will come from this process."""
        ...


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A run as trackers know it.

    Attributes:
        directory: of the run.
        beginning: how many times a run was begun in this directory.
        given: the last step that earlier attempts have given to the tracker; 0 for none.
        settings: that its result depends on, flattened.
    """

    directory: Path
    beginning: int
    given: int
    settings: Facts

    @property
    def folder(self) -> Path:
        """Of all trackers."""
        return self.directory.parent / FOLDER
