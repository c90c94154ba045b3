"""`sae verify`: whether runs are what was written."""

from __future__ import annotations

from sae_cli.cli.command import Quiet
from sae_cli.cli.list_runs import AsJson, Paths, runs_folder


def verify(paths: Paths = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Read every file of runs again and compare it with what was written."""
    from sae_cli import console
    from sae_cli.cli.output import show_listing
    from sae_cli.stages import verification

    console.configure(quiet=quiet)
    verified = verification.run(paths or [runs_folder()])
    show_listing(verified.listing, json)
    verified.check()
