"""`sae export`: a dictionary, or what is known of its features, in another tool's format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sae_cli.config.command import CommandConfig
from sae_cli.config.data import DataConfig
from sae_cli.config.evaluation import FeaturePassConfig
from sae_cli.config.idle import Idle
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.paths import absolute
from sae_cli.config.roles import PathKind, number, place, setting, settings
from sae_cli.documents import Document

DELPHI, NEURONPEDIA = "delphi", "neuronpedia"
"""Formats that are of no dictionary, but of what its features do."""

_OF_A_PASS = ("data", "features", "splits")


@dataclass(kw_only=True)
class ExportConfig(CommandConfig):
    """`sae export`: a dictionary, or what its features do, in a folder that another tool reads; a bare path means
    `run=PATH`.

    Attributes:
        run: the dictionary's run directory.
        to: whose format: saelens, dictionary_learning, sparsify, openmoss; delphi (what every feature does on a text),
            neuronpedia (the pages that `sae features` has made).
        data: with to=delphi, another corpus than the one the dictionary was trained on; null for the same.
        features: with to=delphi, how much text is read.
        splits: with to=delphi, files that the features are divided among.
    """

    command: ClassVar[str] = "export"
    on_data_of_run: ClassVar[bool] = True
    held_in_memory: ClassVar[tuple[str, ...]] = ("model_rows", "data.context")

    run: str = place(PathKind.here)
    to: str = setting()
    data: DataConfig | None = None
    features: FeaturePassConfig = settings(lambda: FeaturePassConfig(tokens=1_000_000))
    splits: int = number(5, at_least=1)

    def run_name(self) -> RunName:
        """Under the name of what is exported."""
        path, root = Path(absolute(self.run, PathKind.here)), Path(os.path.abspath(self.runs_dir))
        if path.is_relative_to(root) and path != root:
            return RunName("/".join((self.command, *path.relative_to(root).parts)), last_part(self.to), {"run", "to"})
        where = f"{self.command}/{last_part(self.run)}-{short_hash(str(path))}"
        return RunName(where, last_part(self.to), {"run", "to"})

    def normalized(self, settings: Document) -> Document:
        """Without those of a pass where there is none."""
        if self.to == DELPHI:
            return settings
        return {key: value for key, value in settings.items() if key.partition(".")[0] not in _OF_A_PASS}

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if self.to != DELPHI:
            yield from (Idle(each, f"with to={self.to}, which reads no text", "leave it out") for each in _OF_A_PASS)
        yield Idle("features.rare_below", "with sae export", "leave it out")
