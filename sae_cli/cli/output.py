"""stdout, which is for machines: run directories one a line, or one strict JSON document."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import overload

from sae_cli.documents import Document, Facts
from sae_cli.jobs.result import Listing, StageResult
from sae_cli.terminal import console


def show(result: StageResult, as_json: bool) -> None:
    """A finished job: the table for people, the directory or the document for machines."""
    if result.table:
        console.table(result.title, result.table, result.header)
    if as_json:
        write_json(as_document(result))
    else:
        write_lines([result.directory])


def show_listing(listing: Listing, as_json: bool) -> None:
    """Several runs: the table for people, the directories or the document for machines."""
    if listing.table:
        console.table(listing.title, listing.table, listing.header)
    else:
        console.log(listing.title)
    if as_json:
        write_json(strict(listing.document))
    else:
        write_lines(listing.directories)


def as_document(result: StageResult) -> Document:
    """The result's document in strict JSON values, with the run directory under `run`."""
    return strict({"run": str(result.directory), **result.document})


@overload
def strict(value: Facts) -> Document: ...


@overload
def strict(value: object) -> object: ...


def strict(value: object) -> object:
    """The value with NaN and infinities, which JSON does not have, as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): strict(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [strict(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def write_json(value: object) -> None:
    """One JSON document on stdout."""
    _write(json.dumps(value, allow_nan=False, indent=2) + "\n")


def write_lines(lines: Sequence[Path | str]) -> None:
    """One line each on stdout."""
    _write("".join(f"{line}\n" for line in lines))


def _write(text: str) -> None:
    if sys.stdout is None:  # closed from the beginning (`>&-`): nobody reads
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads any more (`| head`). The job is done; keep Python from flushing again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
