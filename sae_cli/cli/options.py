"""The options that every command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sae_cli.cli.completion import complete_override
from sae_cli.cli.request import ConfigPart

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
