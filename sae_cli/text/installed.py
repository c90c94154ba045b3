"""The Python packages that are installed beside this one, or the prose in their docstrings: text without a network."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from sae_cli.config.split import Split
from sae_cli.text.documents import Document, of_split, seeded_order
from sae_cli.text.python_files import docstrings, package, read_source, sources

_NO_SOURCES = {"__pycache__"}


class InstalledCorpus:
    """Every `.py` file of the installed packages; the key is its path below the folder that they lie in.

    Args:
        prose: only what docstrings of more than one line say.
        exclude: glob patterns of relative paths that are left out.
        held_out_fraction: share of files, by hash of the path, kept from training.

    Attributes:
        files: by their keys.
    """

    def __init__(self, prose: bool, exclude: Sequence[str], held_out_fraction: float) -> None:
        self.prose, self.held_out_fraction = prose, held_out_fraction
        roots = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
        found = {key: root / key for root in roots for key in sources(root, _NO_SOURCES)}
        self.files = {key: found[key] for key in sorted(found) if not any(fnmatch(key, each) for each in exclude)}

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        keys = of_split(list(self.files), split, self.held_out_fraction)
        for key in seeded_order(keys, seed, epoch):
            text = read_source(self.files[key])
            text = docstrings(text) if self.prose else text
            if text:
                yield Document(key, text, domain=package(key))
