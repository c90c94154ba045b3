"""The words that names of runs are made of: numbers, hashes, and parts in the characters that names have."""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from typing import NamedTuple

from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import absolute
from sae_cli.errors import RequestError

_PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST_PART = 120


class RunName(NamedTuple):
    """What the name of a run spells out.

    Attributes:
        where: the folder below `runs_dir`.
        what: the run in it.
        shown: dotted keys of the settings that these two show.
    """

    where: str
    what: str
    shown: set[str]


def name_parts(key: str, name: str, several: bool = True) -> list[str]:
    """The parts of a name that was given.

    Raises:
        RequestError: it has other characters than names have.
    """
    parts = name.split("/")
    if (len(parts) > 1 and not several) or not all(_PART.fullmatch(part) for part in parts):
        allowed = "letters, digits and . _ -" + (", parts separated by /" if several else "")
        raise RequestError(f"{key}={name}: a name is made of {allowed}; no part is empty or begins with a dot")
    return parts


def last_part(path: str) -> str:
    """The last part of a path in the characters of names."""
    last = re.sub(r"[^A-Za-z0-9._-]+", "_", path.rstrip("/").rpartition("/")[2])
    return last.lstrip(".") or "run"


def safe_part(text: str) -> str:
    """Text in the characters of names, with a hash where that, or cutting it short, has changed it."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:_LONGEST_PART]
    return safe if safe == text else f"{safe or 'part'}-{short_hash(text)}"


def model_part(model: ModelConfig) -> tuple[str, str]:
    """What a model is called, and the setting that says so."""
    if model.name:
        return "-".join(name_parts("model.name", model.name, several=False)), "model.name"
    path = absolute(model.path)
    return f"{last_part(path)}-{short_hash(path)}", "model.path"


def number_part(value: float) -> str:
    """The shortest decimal that reads back as `value`: 1, 0.3, 0.0001."""
    text = format(Decimal(repr(float(value))), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def short_hash(value: object) -> str:
    """Eight hexadecimal digits that stand for a plain value."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]
