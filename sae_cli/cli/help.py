"""`--help` of a command that is configured: below its options what there is to choose from and to set."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from typer import Context
from typer.core import TyperCommand

_MEANINGS = {
    "model": "language model",
    "hook": "hook point",
    "data": "data source",
    "sae": "architecture",
    "recipe": "published training",
}


class Formatter(Protocol):
    """What help is written with; typer's own is private to it."""

    def section(self, name: str) -> AbstractContextManager[None]: ...

    def write_dl(self, rows: Sequence[tuple[str, str]]) -> None: ...

    def write_paragraph(self) -> None: ...

    def write_text(self, text: str) -> None: ...


class ConfiguredCommand(TyperCommand):
    """A command whose help lists its groups and settings, with the options of `--config-dir`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        # --help is answered before any other option is looked at.
        ctx.meta[__name__] = self.make_parser(ctx).parse_args(list(args))[0].get("config_dir")
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Context, formatter: Formatter) -> None:
        from sae_cli.config.listing import added_groups_of, groups_of, settings_of

        command, folder = ctx.command.name, ctx.meta.get(__name__)
        assert command is not None, "each is called as its configuration"
        folder = Path(folder) if folder else None
        groups, settings = groups_of(command, folder), settings_of(command)
        added = added_groups_of(command, folder)
        if groups:
            with formatter.section("Groups (GROUP=OPTION)"):
                formatter.write_dl([(_named(each.name), _choices(each.options, each.default)) for each in groups])
        if added:
            with formatter.section("Added with a + (+GROUP=OPTION); what else is given goes before"):
                formatter.write_dl([(_named(each.name), ", ".join(each.options)) for each in added])
        with formatter.section("Settings (KEY=VALUE), with their defaults"):
            rows = [("to be given", ", ".join(settings.needed)), ("defaults", "  ".join(settings.defaults))]
            rows.append(("with keys of their own", ", ".join(f"{each}.KEY" for each in settings.nodes)))
            formatter.write_dl([row for row in rows if row[1]])
        formatter.write_paragraph()
        formatter.write_text(f"sae {command} --cfg job prints all of them, those of the groups that are chosen too.")


def _named(group: str) -> str:
    return f"{group} ({_MEANINGS[group]})" if group in _MEANINGS else group


def _choices(options: list[str], default: str | None) -> str:
    chosen = f"{default} unless given" if default else "the run's own unless given"
    return f"{', '.join(options)}; {chosen}"
