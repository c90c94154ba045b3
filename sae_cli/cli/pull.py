"""`sae pull`: a run from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sae_cli.cli.command import Json, Quiet, local_path
from sae_cli.cli.settings import settings_of
from sae_cli.config.location import HUB, runs_folder
from sae_cli.errors import RequestError

if TYPE_CHECKING:
    from sae_cli.commands.pull import PullRequest

_KEYS = ("source", "name", "runs_dir", "overwrite")

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="hf:ORG/NAME[@REVISION]",
        help="The repository; name=NAME of the run, runs_dir=DIR (SAE_RUNS or runs), overwrite=true to replace what is "
        "there.",
        show_default=False,
    ),
]


def pull(arguments: Arguments = None, json: Json = False, quiet: Quiet = False) -> None:
    """Get a run from the Hugging Face hub: sae pull hf:org/name

    What sae push has put there, at main or at a branch, tag or commit after an @; every file is compared with the
    manifest. It is downloaded once, and found without a network (HF_HUB_OFFLINE=1) after that. stdout has the run
    directory.
    """
    from sae_cli.cli.output import show
    from sae_cli.commands import pull as stage
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    show(stage.run(_request(arguments or ())), json)


def _request(arguments: Sequence[str]) -> PullRequest:
    """What was asked for; a `RequestError` where that is not clear."""
    from sae_cli.commands.pull import PullRequest
    from sae_cli.runs.published import Address

    plain, given = settings_of(arguments, _KEYS)
    sources = [*plain, *([given["source"]] if "source" in given else [])]
    if len(sources) != 1:
        raise RequestError(f"sae pull: expected one address as {HUB}org/name, found {len(sources)}")
    overwrite = given.get("overwrite", "false").lower()
    if overwrite not in ("true", "false"):
        raise RequestError(f"overwrite={given['overwrite']}: expected true or false")
    return PullRequest(
        source=Address.of(sources[0]),
        runs_dir=local_path(given["runs_dir"]) if given.get("runs_dir") else Path(runs_folder()),
        name=given.get("name"),
        overwrite=overwrite == "true",
    )
