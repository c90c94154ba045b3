"""`sae list`: the runs that there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sae_cli.cli.command import Quiet

Paths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="PATH", help="Run directories, or folders of runs (SAE_RUNS or runs).", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of run directories.")]


def runs_folder() -> Path:
    """Where runs are if nothing else is said."""
    return Path(os.environ.get("SAE_RUNS", "runs"))


def list_runs(paths: Paths = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """List runs: status, figures, size."""
    from sae_cli import console
    from sae_cli.cli.output import show_listing
    from sae_cli.stages import inventory

    console.configure(quiet=quiet)
    show_listing(inventory.run(paths or [runs_folder()], named=bool(paths)), json)
