"""`sae list`: the runs that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sae_cli.cli.command import Quiet, local_paths
from sae_cli.config.location import runs_folder

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH",
        help="Run directories, or folders of runs (SAE_RUNS or runs).",
        show_default=False,
        callback=local_paths,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of run directories.")]


def list_runs(paths: Paths = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """List runs: status, figures, size."""
    from sae_cli.cli.output import show_listing
    from sae_cli.commands import list_runs
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    show_listing(list_runs.run(paths or [Path(runs_folder())], named=bool(paths)), json)
