"""`sae classify RUN probe=NAME`: text from standard input, what it is to standard output."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sae_cli.cli.command import Quiet, Require, local_path
from sae_cli.errors import RequestError

Given = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RUN probe=NAME [KEY=VALUE]...",
        help="A dictionary's run directory, the probe's name, and concept=, k=, device=, model_rows=.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, the figures, instead of a line each.")]

_NUMBERS = ("k", "model_rows")
_TEXTS = ("probe", "concept", "device", "run")


def classify(given: Given = None, json: AsJson = False, quiet: Quiet = False, require: Require = None) -> None:
    """Classify text by a probe that was saved: sae classify RUN probe=NAME < text.jsonl

    Each line of standard input is a JSON object with a "text", and may have a "label" or "spans"; for each there is a
    line on standard output: of every concept a score and where in the text it is. Required are shares, and with labels
    precision, recall, f1 and accuracy, as in --require 'python.param.recall>=.8' or 'python.param.share<.1'.
    """
    from sae_cli.cli import requirements
    from sae_cli.cli.output import strict, write_json, write_lines
    from sae_cli.terminal import console

    asked = settings(given or [])
    required = [requirements.parse(each) for each in require or ()]
    console.configure(quiet=quiet)
    gc.enable()
    from sae_cli.commands import classify
    from sae_cli.documents import Document

    def say(line: Document) -> None:
        import json as plain

        if not json:
            write_lines([plain.dumps(strict(line), allow_nan=False)])

    if sys.stdin is None or sys.stdin.isatty():
        raise RequestError("sae classify reads documents from standard input: sae classify RUN probe=NAME < text.jsonl")
    sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    texts = {key: value for key, value in asked.items() if isinstance(value, str)}
    numbers = {key: value for key, value in asked.items() if isinstance(value, int)}
    wanted = classify.Asked(
        run=texts["run"],
        probe=texts["probe"],
        concept=texts.get("concept", ""),
        device=texts.get("device", "auto"),
        k=numbers.get("k", 0),
        model_rows=numbers.get("model_rows", 16),
    )
    figures = classify.run(wanted, sys.stdin, say)
    if json:
        write_json(strict(figures))
    rows = [("documents", f"{figures['documents']:,}"), ("tokens", f"{figures['tokens']:,}")]
    for name, each in figures.items():
        if isinstance(each, dict):
            shown = ", ".join(f"{key} {value:.4g}" for key, value in each.items() if value is not None)
            rows.append((name, shown or "nothing to tell"))
    console.table("classified", rows, ())
    requirements.check(required, {"figures": figures})


def settings(arguments: Sequence[str]) -> dict[str, str | int]:
    """`RUN probe=NAME k=4` as settings.

    Raises:
        RequestError: one is not known, is missing, or is no number where one is expected.
    """
    found: dict[str, str | int] = {}
    for each in arguments:
        key, equals, value = each.partition("=")
        if not equals or "/" in key:
            key, value = "run", str(local_path(each))
        if key in found:
            raise RequestError(f"{key} is given twice")
        if key in _NUMBERS:
            if not value.isdecimal() or not int(value):
                raise RequestError(f"{each}: expected a number from 1")
            found[key] = int(value)
        elif key in _TEXTS:
            found[key] = value
        else:
            raise RequestError(f"{each}: unknown key {key}; sae classify has {', '.join((*_TEXTS, *_NUMBERS))}")
    for key in ("run", "probe"):
        if not found.get(key):
            raise RequestError(f"{key} is missing: sae classify RUN probe=NAME < text.jsonl")
    return found
