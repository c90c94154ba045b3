"""The sources of the running Python's standard library: a real corpus that needs no network."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from sae_cli.config.split import Split
from sae_cli.text.documents import Document, of_split, seeded_order
from sae_cli.text.python_files import package, read_source, sources

# Folders that hold installed packages or tests rather than the library itself.
_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}
_TESTS = {"test", "tests", "idle_test"}


class StdlibCorpus:
    """Every `.py` file under the running interpreter's library folder; the key is its relative path.

    Args:
        tests: include the library's own tests (some distributions leave them out).
        exclude: glob patterns of relative paths that are left out.
        held_out_fraction: share of files, by hash of the path, kept from training.
    """

    def __init__(self, tests: bool, exclude: Sequence[str], held_out_fraction: float) -> None:
        self.root = Path(sysconfig.get_path("stdlib"))
        self.held_out_fraction = held_out_fraction
        left_out = _NOT_THE_LIBRARY if tests else _NOT_THE_LIBRARY | _TESTS
        keys = sources(self.root, left_out)
        self.keys = sorted(key for key in keys if not any(fnmatch(key, pattern) for pattern in exclude))

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        keys = of_split(self.keys, split, self.held_out_fraction)
        for key in seeded_order(keys, seed, epoch):
            text = read_source(self.root / key)
            if text:
                yield Document(key, text, domain=package(key))
