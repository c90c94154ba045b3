"""`sae export`: a dictionary in another tool's format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sae_cli.config.command import CommandConfig
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.paths import absolute
from sae_cli.config.roles import PathKind, place, setting


@dataclass(kw_only=True)
class ExportConfig(CommandConfig):
    """`sae export`: a dictionary in another tool's format, in a folder that it reads; a bare path means `run=PATH`.

    Attributes:
        run: the dictionary's run directory.
        to: whose format: saelens, dictionary_learning, sparsify, openmoss.
    """

    command: ClassVar[str] = "export"

    run: str = place(PathKind.here)
    to: str = setting()

    def run_name(self) -> RunName:
        """Under the name of what is exported."""
        path, root = Path(absolute(self.run, PathKind.here)), Path(os.path.abspath(self.runs_dir))
        if path.is_relative_to(root) and path != root:
            return RunName("/".join((self.command, *path.relative_to(root).parts)), last_part(self.to), {"run", "to"})
        where = f"{self.command}/{last_part(self.run)}-{short_hash(str(path))}"
        return RunName(where, last_part(self.to), {"run", "to"})
