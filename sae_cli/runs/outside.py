"""Where measurements of a run go that are not to be, or cannot be, in the run itself.

<out>/<name of the run>-<8 hex digits of its manifest>/eval/<name>
"""

from __future__ import annotations

from pathlib import Path

from sae_cli.artifacts.files import check_writable, unwritable_above
from sae_cli.artifacts.places import inside
from sae_cli.artifacts.stored_run import FinishedRun


def root_of(run: FinishedRun, out: str | None) -> Path:
    """The folder for the measurements of one run: its own without `out`, else one below that which it shares with no
    other run."""
    if out is None:
        return run.directory
    return Path(out) / f"{run.directory.resolve().name}-{run.as_parent().sha256[:8]}"


def folder_of(run: FinishedRun, out: str | None, kind: str, name: str) -> Path:
    """The folder of one measurement of a run.

    Args:
        run: what is measured.
        out: see `root_of`.
        kind: `eval` or `features`.
        name: of the measurement.

    Raises:
        JobError: a link in the run leads out of it.
    """
    return inside(root_of(run, out), f"{kind}/{name}")


def check_place(run: FinishedRun, out: str | None, folder: Path, command: str) -> None:
    """Refuse, before anything is measured, a folder in which it cannot be kept.

    Raises:
        JobError: it cannot be written.
    """
    what = "choose another out=" if out else f"measure it into another: sae {command} {run.directory} out=DIR"
    for each in (folder, root_of(run, out)):
        check_writable(each, what)


def can_keep(run: FinishedRun, folder: Path) -> bool:
    """Whether a measurement can be kept in this folder of the run."""
    return unwritable_above(folder) is None and unwritable_above(run.directory) is None
