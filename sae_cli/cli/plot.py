"""`sae plot`: figures for papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sae_cli.cli.command import Quiet, local_path
from sae_cli.cli.settings import settings_of
from sae_cli.errors import RequestError

if TYPE_CHECKING:
    from sae_cli.commands.plot import PlotRequest

_KEYS = ("kind", "out", "columns", "eval")

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN|KEY=VALUE",
        help="Run directories, kind=KIND, out=FILE, columns=1|2 of a page, eval=NAME of an evaluation.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document with the numbers that are drawn.")]


def plot(arguments: Arguments = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Draw a figure for a paper: sae plot RUN kind=frequency out=frequency.pdf

    kind=frequency: how often features fire, with the pruning threshold. kind=density3d: frequency, encoder bias and
    encoder times decoder of each feature. kind=frontier: loss recovered, FVU and CE increase over L0, one point a run,
    pruned ones joined to what they were made of. kind=curve: the training curve. Files end with .pdf, .svg or .png; the
    same runs make the same bytes. stdout has the file's path.
    """
    from sae_cli.cli.output import strict, write_json, write_lines
    from sae_cli.commands import plot as stage
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    drawn = stage.run(_request(arguments or ()))
    if json:
        write_json(strict(drawn.document()))
    else:
        write_lines([drawn.path])


def _request(arguments: Sequence[str]) -> PlotRequest:
    """What was asked for.

    Raises:
        RequestError: it is not clear, or not possible.
    """
    from sae_cli.commands.plot import FORMATS, Kind, PlotRequest

    runs, given = settings_of(arguments, _KEYS)
    if "kind" not in given:
        raise RequestError(f"kind is missing: give kind={'|'.join(Kind.__members__)}")
    kind = Kind[_one_of("kind", given["kind"], list(Kind.__members__))]
    columns = int(_one_of("columns", given.get("columns", "1"), ["1", "2"]))
    out = local_path(given.get("out", f"{kind.value}.pdf"))
    if out.suffix.lower() not in [f".{each}" for each in FORMATS]:
        raise RequestError(f"out={out}: expected a name that ends with .pdf, .svg or .png")
    if not runs:
        raise RequestError("nothing to draw: give run directories, as commands print them")
    return PlotRequest(
        runs=[local_path(each) for each in runs], kind=kind, out=out, columns=columns, evaluation=given.get("eval")
    )


def _one_of(key: str, value: str, options: Sequence[str]) -> str:
    if value not in options:
        raise RequestError(f"{key}={value}: expected one of [{', '.join(options)}]")
    return value
