"""`sae contrast A… --against B…`: bare paths are dictionaries, those after `--against` of the other recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from typer import Context

from sae_cli.cli.command import configured_command, local_path
from sae_cli.cli.help import ConfiguredCommand, Formatter

AGAINST, PREDICT = "--against", "--predict"


class ContrastCommand(ConfiguredCommand):
    """The command with its paths as the settings that they stand for."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_paths(args))

    def format_epilog(self, ctx: Context, formatter: Formatter) -> None:
        with formatter.section("Dictionaries and predictions"):
            formatter.write_dl(
                [
                    ("RUN...", "Dictionaries of one recipe, one a seed; a=[RUN,RUN] in settings."),
                    (f"{AGAINST} RUN...", "As many of the other recipe; against=[RUN,RUN]."),
                    (f"{PREDICT} EXPR", "Stored before anything is measured: loss_recovered<.74, difference.fvu>0."),
                ]
            )
        super().format_epilog(ctx, formatter)


def with_paths(arguments: Sequence[str]) -> list[str]:
    """`A B --against C D --predict X` as `a=[A,B] against=[C,D] predict=[X]`; everything else as it is."""
    from sae_cli.cli.overrides import quoted

    given: dict[str, list[str]] = {"a": [], "against": [], "predict": []}
    rest: list[str] = []
    key = "a"
    pending = list(arguments)
    while pending:
        text = pending.pop(0)
        option, equals, value = text.partition("=")
        if text == AGAINST:
            key = "against"
        elif text == PREDICT and pending:
            given["predict"].append(pending.pop(0))
        elif equals and option in (AGAINST, PREDICT):
            given[option.removeprefix("--")].append(str(local_path(value)) if option == AGAINST else value)
            key = "against" if option == AGAINST else key
        elif text in _WITH_VALUE and pending:
            rest += [text, pending.pop(0)]
        elif _is_path(text):
            given[key].append(str(local_path(text)))
        else:
            rest.append(text)
    return rest + [f"{key}=[{','.join(map(quoted, texts))}]" for key, texts in given.items() if texts]


_WITH_VALUE = ("--cfg", "--config-dir", "--require")


def _is_path(text: str) -> bool:
    """What exists is a path even with a `=` in it; what is neither an option nor an override is one, too."""
    return not text.startswith("-") and ("=" not in text or Path(text).exists())


contrast = configured_command(
    "contrast",
    "Whether two recipes differ, over seeds and text: sae contrast RUN RUN RUN --against RUN RUN RUN",
)
