"""`sae features`: a bare path is the run; `--show` prints pages of features."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sae_cli.cli.command import configured_command
from sae_cli.errors import RequestError

Show = Annotated[
    list[str] | None,
    typer.Option(metavar="N", help="Show the page of this feature on stderr. Several allowed: 3,17."),
]


def _numbers(given: list[str] | None) -> list[int]:
    return [number for text in given or () for number in _numbers_in(text)]


def _numbers_in(text: str) -> list[int]:
    if not re.fullmatch(r"\[?\s*\d+\s*(,\s*\d+\s*)*\]?", text):
        raise RequestError(f"--show {text}: expected the number of a feature, or several as in 3,17")
    return [int(each) for each in re.findall(r"\d+", text)]


features = configured_command(
    "features",
    "Feature pages, with contexts: sae features runs/train/demo/mlp_out.2/relu-F2048-l1_1-seed0",
    show=(Show, _numbers),
)
