"""`sae push`: a run to the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sae_cli.cli.command import Quiet, local_path
from sae_cli.cli.settings import settings_of
from sae_cli.config.location import HUB
from sae_cli.errors import RequestError

if TYPE_CHECKING:
    from sae_cli.commands.push import PushRequest

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN hf:ORG/NAME", help="A run directory, and the repository; or run=RUN to=hf:ORG/NAME.",
        show_default=False,
    ),
]  # fmt: skip
Private = Annotated[bool, typer.Option("--private", help="A repository that only its owners can read.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the files and the card, and send nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the address.")]


def push(
    arguments: Arguments = None,
    private: Private = False,
    dry_run: DryRun = False,
    json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Put a run on the Hugging Face hub: sae push RUN hf:org/name

    The run with its evaluations, a card for people made of its manifest, and files that SAELens reads, in one commit;
    sae pull gives the run back. HF_TOKEN says who you are. stdout has the address with the commit; with --dry-run the
    card.
    """
    from sae_cli.cli.output import strict, write_json, write_lines
    from sae_cli.commands import push as stage
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    made = stage.run(_request(arguments or (), private, dry_run))
    if made.pushed is not None:
        console.log("pushed" if made.pushed.changed else "nothing has changed: it is there already")
    if json:
        write_json(strict(made.document()))
    elif made.pushed is None:
        write_lines([made.card.removesuffix("\n")])
    else:
        write_lines([f"{HUB}{made.repository}@{made.pushed.commit}"])


def _request(arguments: Sequence[str], private: bool, dry_run: bool) -> PushRequest:
    """What was asked for; a `RequestError` where that is not clear."""
    from sae_cli.commands.push import PushRequest
    from sae_cli.runs.published import Address

    plain, given = settings_of(arguments, ("run", "to"))
    addresses = [each for each in plain if each.startswith(HUB)]
    runs = [each for each in plain if not each.startswith(HUB)]
    runs += [given["run"]] if "run" in given else []
    addresses += [given["to"]] if "to" in given else []
    if len(runs) != 1 or len(addresses) != 1:
        found = f"{len(runs)} run{'s' * (len(runs) != 1)} and {len(addresses)} of the other"
        raise RequestError(f"sae push: expected one run directory and one address as {HUB}org/name, found {found}")
    return PushRequest(run=local_path(runs[0]), to=Address.of(addresses[0]), private=private, dry_run=dry_run)
