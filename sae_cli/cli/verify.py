"""`sae verify`: whether runs are what was written."""

from __future__ import annotations

from pathlib import Path

from sae_cli.cli.command import Quiet
from sae_cli.cli.list_runs import AsJson, Paths
from sae_cli.config.location import runs_folder


def verify(paths: Paths = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Check that runs are what was written.

    Every file is read and compared with its manifest, in the evaluations too. Exit code 1 if something is damaged;
    stdout has the runs that are not.
    """
    from sae_cli.cli.output import show_listing
    from sae_cli.commands import verify as verification
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    verified = verification.run(paths or [Path(runs_folder())])
    show_listing(verified.listing, json)
    verified.check()
