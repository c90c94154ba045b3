"""What was asked for on the command line, before Hydra has looked at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class ConfigPart(Enum):
    """What `--cfg` prints."""

    job = "job"
    hydra = "hydra"
    all = "all"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One invocation of one command.

    Attributes:
        command: name of the command and of its primary configuration.
        overrides: `KEY=VALUE` arguments, in Hydra's grammar.
        multirun: sweep over values with commas.
        cfg: print this part of the configuration instead of running.
        resolve: with `cfg`, resolve interpolations.
        info: print what Hydra knows of the configuration instead of running.
        config_dir: a folder of the user's own group options.
        as_json: print one JSON document on stdout instead of run directories.
        quiet: nothing but errors on stderr.
        requirements: conditions that the result must meet, as typed.
        show: numbers of features whose pages are shown.
        own_source: `data` is of the source that the run was trained on, which was not typed.
    """

    command: str
    overrides: Sequence[str]
    multirun: bool = False
    cfg: ConfigPart | None = None
    resolve: bool = False
    info: bool = False
    config_dir: Path | None = None
    as_json: bool = False
    quiet: bool = False
    requirements: Sequence[str] = ()
    show: Sequence[int] = ()
    own_source: bool = False
