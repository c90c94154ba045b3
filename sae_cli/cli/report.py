"""`sae report`: runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sae_cli.cli.command import Quiet, local_path

Runs = Annotated[
    list[str],
    typer.Argument(
        metavar="RUN...", help="Run directories, or folders of runs; out=FILE as --out.", show_default=False
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Where it goes (report.html in the run, or above all of them)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the file's path.")]


def report(runs: Runs, out: Out = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Write a report of runs: one HTML file, to be opened from disk.

    One run: its training, figures, charts and features. Several, or a folder: the frontier and a table. stdout has the
    file's path.
    """
    from sae_cli.cli.output import write_json, write_lines
    from sae_cli.commands import report as stage
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    paths, place = _paths(runs), local_path(out) if out else _given(runs)
    written = stage.run(paths, place)
    if json:
        write_json(written.document())
    else:
        write_lines([written.path])


def _paths(runs: list[str]) -> list[Path]:
    from sae_cli.errors import RequestError

    paths = [local_path(each) for each in runs if not _is_out(each)]
    if not paths:
        raise RequestError("sae report: expected a run directory or a folder of runs, found only out=")
    return paths


def _given(runs: list[str]) -> Path | None:
    """The file that `out=FILE` names; the last one where there are several."""
    given = [each.removeprefix("out=") for each in runs if _is_out(each)]
    return local_path(given[-1]) if given else None


def _is_out(argument: str) -> bool:
    return argument.startswith("out=") and not Path(argument).exists()
