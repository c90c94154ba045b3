"""`sae features`: a bare path is the run; `--show` prints sheets."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sae_cli.cli.command import (
    Cfg,
    ConfigDir,
    Info,
    Json,
    Multirun,
    Overrides,
    Quiet,
    Require,
    Resolve,
    as_run,
)
from sae_cli.cli.request import Request
from sae_cli.errors import RequestError

Show = Annotated[
    list[str] | None,
    typer.Option(metavar="N", help="Show the sheet of this feature on stderr. Several allowed: 3,17."),
]


def features(
    overrides: Overrides = None,
    show: Show = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    info: Info = False,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
    require: Require = None,
) -> None:
    """Sheets of features, with contexts: sae features runs/train/demo/mlp_out.3/relu-F2048-l1_1-seed0"""
    from sae_cli.cli.execute import execute

    execute(
        Request(
            command="features",
            stage="sae_cli.commands.features",
            overrides=[as_run(argument) for argument in overrides or ()],
            multirun=multirun,
            cfg=cfg,
            resolve=resolve,
            info=info,
            config_dir=config_dir,
            as_json=json,
            quiet=quiet,
            requirements=require or (),
            show=[number for text in show or () for number in _numbers(text)],
        )
    )


def _numbers(text: str) -> list[int]:
    if not re.fullmatch(r"\[?\s*\d+\s*(,\s*\d+\s*)*\]?", text):
        raise RequestError(f"--show {text}: expected the number of a feature, or several as in 3,17")
    return [int(each) for each in re.findall(r"\d+", text)]
