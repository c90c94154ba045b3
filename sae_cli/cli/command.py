"""What every configured command of the line looks like: one function from its options to a request."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

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

OwnOption = tuple[object, Callable[[list[str] | None], object]]
"""An option that may be given several times: its annotation, and how what was given enters the request."""

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def request_of(
    overrides: Overrides = None,
    multirun: Multirun = False,
    cfg: Cfg = None,
    resolve: Resolve = False,
    info: Info = False,
    config_dir: ConfigDir = None,
    json: Json = False,
    quiet: Quiet = False,
    require: Require = None,
    *,
    command: str,
) -> Request:
    """What these options ask of a command."""
    return Request(
        command=command,
        overrides=overrides or (),
        multirun=multirun,
        cfg=cfg,
        resolve=resolve,
        info=info,
        config_dir=config_dir,
        as_json=json,
        quiet=quiet,
        requirements=require or (),
    )


def configured_command(name: str, summary: str, **own: OwnOption) -> Callable[..., None]:
    """The command that is configured by `KEY=VALUE`, as its schema says, and run by the module of its name.

    Args:
        name: of the command and of its primary configuration.
        summary: the line that `--help` shows.
        own: options that only this command has.
    """

    def command(**given: Any) -> None:
        from sae_cli.cli.execute import execute

        more = {option: read(given.pop(option)) for option, (_, read) in own.items()}
        execute(replace(request_of(**given, command=name), **more))

    shared = inspect.signature(request_of, eval_str=True).parameters.values()
    first, *others = [each.replace(kind=_KEYWORD) for each in shared if each.kind is each.POSITIONAL_OR_KEYWORD]
    added = [inspect.Parameter(option, _KEYWORD, default=None, annotation=kind) for option, (kind, _) in own.items()]
    command.__signature__ = inspect.Signature([first, *added, *others])  # type: ignore[attr-defined]
    command.__doc__ = summary
    return command


def local_path(argument: str | Path) -> Path:
    """A path as it was typed, with `~` as the home of whoever asks."""
    return Path(os.path.expanduser(argument))


def local_paths(arguments: list[Path] | None) -> list[Path] | None:
    """Paths as they were typed; see `local_path`."""
    return arguments and [local_path(each) for each in arguments]
