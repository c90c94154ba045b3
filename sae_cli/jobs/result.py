"""What a command hands back to the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sae_cli.documents import Document


@dataclass(kw_only=True)
class StageResult:
    """A finished job.

    Attributes:
        directory: the run directory, as the user can give it back; printed on stdout.
        document: printed on stdout instead with `--json`; NaN and infinity become null. Its entry
            `figures`, name to number or text, becomes columns of a sweep's table; its entry `eval` is
            what `--require` looks at.
        title: heading of the table.
        table: rows shown to people on stderr: a label and a value or several.
        header: names of the table's columns, where a label and a value do not say it.
    """

    directory: Path
    document: Document = field(default_factory=dict[str, object])
    title: str = ""
    table: Sequence[Sequence[str]] = ()
    header: Sequence[str] = ()


@dataclass(kw_only=True)
class Listing:
    """What is known about several runs.

    Attributes:
        directories: printed on stdout, one a line.
        document: printed on stdout instead with `--json`.
        title: heading of the table.
        table: rows shown to people on stderr.
        header: names of the table's columns.
    """

    directories: Sequence[Path]
    document: Document
    title: str
    table: Sequence[Sequence[str]] = ()
    header: Sequence[str] = ()
