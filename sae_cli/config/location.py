"""Where the YAML files are, and where runs are. Imports nothing, so that completion of group options is quick."""

from __future__ import annotations

import os
from pathlib import Path

HUB = "hf:"
"""Before `org/repo[/path][@revision]`, an address on the Hugging Face hub."""
RUNS = "SAE_RUNS"
"""The environment variable that says where runs are; an empty one says nothing."""


ADDED_GROUPS = {"train": ("recipe",)}
"""Groups whose options are added to a command with a +: they have no default."""


def runs_folder() -> str:
    """Where runs are if nothing else is said."""
    return os.path.expanduser(os.environ.get(RUNS) or "runs")


def conf_dir() -> Path:
    """The folder conf/: inside the package when installed from a wheel, else in the repository."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parent / "conf"


def option_files(group: str, config_dir: Path | None = None) -> list[str]:
    """The options of a group that are files in conf/ or in the user's own folder; empty for no group."""
    folders = [conf_dir() / group, *([] if config_dir is None else [config_dir / group])]
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
