"""`sae probe RUN labels=python.param,python.docstring --save NAME`: what is easier to type than to quote."""

from __future__ import annotations

from collections.abc import Sequence

from typer import Context

from sae_cli.cli.command import configured_command
from sae_cli.cli.help import ConfiguredCommand, Formatter

SAVE = "--save"
_LABELS, _REGEX = "labels=", "regex:"


class ProbeCommand(ConfiguredCommand):
    """The command with its labels as Hydra reads them."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, as_settings(args))

    def format_epilog(self, ctx: Context, formatter: Formatter) -> None:
        with formatter.section("Labels, and keeping a probe"):
            formatter.write_dl(
                [
                    (
                        "labels=python",
                        "All of Python; labels=text those of any text; labels=python.param one.",
                    ),
                    ("labels=FILE.jsonl", '{"text", "label"} or {"text", "spans": [[start, end, name]]} a line.'),
                    ("labels=regex:NAME=PATTERN", "What a regular expression matches, or its groups."),
                    (f"{SAVE} NAME", "For sae classify RUN probe=NAME; save=NAME in settings."),
                ]
            )
        super().format_epilog(ctx, formatter)


def as_settings(arguments: Sequence[str]) -> list[str]:
    """`labels=A,B` as a list, a regular expression as it is, `--save NAME` as `save=NAME`."""
    from sae_cli.cli.overrides import quoted

    found, pending = [], list(arguments)
    while pending:
        text = pending.pop(0)
        if text == SAVE and pending:
            found.append(f"save={quoted(pending.pop(0))}")
        elif text.startswith(f"{SAVE}="):
            found.append(f"save={quoted(text.partition('=')[2])}")
        elif text.startswith(_LABELS) and text[len(_LABELS) :][:1] not in ("[", "'", '"', ""):
            value = text.removeprefix(_LABELS)
            parts = [value] if value.startswith(_REGEX) else value.split(",")
            found.append(f"{_LABELS}[{','.join(map(quoted, parts))}]")
        else:
            found.append(text)
    return found


probe = configured_command("probe", "Features as classifiers: sae probe RUN labels=python")
