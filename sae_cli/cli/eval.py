"""`sae eval`: a bare path is the run, and `--require` makes it a gate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sae_cli.cli.options import Cfg, ConfigDir, Info, Json, Multirun, Overrides, Quiet, Resolve
from sae_cli.cli.request import Request

Require = Annotated[
    list[str] | None,
    typer.Option(metavar="EXPR", help="Exit with 3 unless this holds: loss_recovered>=0.9. Several allowed."),
]


def evaluate(
    overrides: Overrides = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    info: Info = False,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
    require: Require = None,
) -> None:
    """Evaluate a dictionary: sae eval runs/train/demo/mlp_out.3/relu-F2048-l1_1.8-seed0"""
    from sae_cli.cli.execute import execute

    execute(
        Request(
            command="eval",
            stage="sae_cli.stages.evaluate",
            overrides=[_as_run(argument) for argument in overrides or ()],
            multirun=multirun,
            cfg=cfg,
            resolve=resolve,
            info=info,
            config_dir=config_dir,
            as_json=json,
            quiet=quiet,
            requirements=require or (),
        )
    )


def _as_run(argument: str) -> str:
    """An override as it is, a path as `run=PATH`; what exists on disk is a path even with a `=` in it."""
    if Path(argument).exists() or ("=" not in argument and not argument.startswith(("~", "+"))):
        from sae_cli.cli.overrides import quoted

        return f"run={quoted(argument)}"
    return argument
