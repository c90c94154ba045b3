"""Names for several runs where there is little room: what tells their directories apart."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from sae_cli.escaping import visible


def short_names(directories: Sequence[str | Path]) -> list[str]:
    """The parts of paths that tell them apart: what all begin and end with is left out; of one, its last part."""
    paths = [visible(_named(path)) for path in directories]
    parts = [re.split(r"[/-]", path) for path in paths]
    first = _alike(parts)
    last = _alike([list(reversed(each[first:])) for each in parts])
    short = ["-".join(each[first : len(each) - last]) for each in parts]
    return short if all(short) else [path.rpartition("/")[2] for path in paths]


def _named(path: str | Path) -> str:
    """A path that ends with a name, which `.` and `..` are not."""
    return os.path.abspath(path) if os.path.basename(path) in ("", ".", "..") else str(path)


def _alike(parts: Sequence[Sequence[str]]) -> int:
    """How many parts all begin with."""
    return sum(1 for _ in takewhile(lambda each: len(set(each)) == 1, zip(*parts, strict=False)))
