"""What every command of the line looks like: one function from its options to a request."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from sae_cli.cli.completion import complete_override
from sae_cli.cli.request import ConfigPart, Request

Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        autocompletion=complete_override,
        help="Settings and group options; --cfg job prints them all.",
        show_default=False,
    ),
]
Multirun = Annotated[bool, typer.Option("--multirun", "-m", help="Sweep: one job for each value of l1=0.3,1,3.")]
Cfg = Annotated[ConfigPart | None, typer.Option("--cfg", help="Print the configuration instead of running.")]
Resolve = Annotated[bool, typer.Option("--resolve", help="With --cfg: resolve interpolations.")]
Info = Annotated[bool, typer.Option("--info", help="Print where the configuration comes from.")]
ConfigDir = Annotated[Path | None, typer.Option("--config-dir", help="A folder with group options of your own.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of the run directory.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Require = Annotated[
    list[str] | None,
    typer.Option(metavar="EXPR", help="Exit with 3 unless this holds: loss_recovered>=0.9. Several allowed."),
]


def stage_command(name: str, stage: str, summary: str, on_a_run: bool = False) -> Callable[..., None]:
    """The command that runs a stage.

    Args:
        name: of the command and of its primary configuration.
        stage: module whose `run` does the work; imported when work starts.
        summary: the line that `--help` shows.
        on_a_run: a bare path means run=PATH.
    """

    def command(
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
        from sae_cli.cli.execute import execute

        execute(
            Request(
                command=name,
                stage=stage,
                overrides=[as_run(argument) if on_a_run else argument for argument in overrides or ()],
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

    command.__doc__ = summary
    return command


def local_path(argument: str | Path) -> Path:
    """A path as it was typed, with `~` as the home of whoever asks."""
    return Path(os.path.expanduser(argument))


def local_paths(arguments: list[Path] | None) -> list[Path] | None:
    """Paths as they were typed; see `local_path`."""
    return arguments and [local_path(each) for each in arguments]


def as_run(argument: str) -> str:
    """An override as it is, a path as `run=PATH`; what exists on disk is a path even with a `=` in it."""
    is_override = "=" in argument or argument.startswith(("~", "+"))
    if Path(argument).exists() or argument.startswith("~/") or not is_override:
        from sae_cli.cli.overrides import quoted

        return f"run={quoted(argument)}"
    return argument
