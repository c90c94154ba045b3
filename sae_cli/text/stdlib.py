"""The sources of the running Python's standard library: a real corpus that needs no network."""

from __future__ import annotations

import os
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence, Set
from fnmatch import fnmatch
from pathlib import Path

from sae_cli.config.split import Split
from sae_cli.text.documents import Document, of_split, seeded_order

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
        keys = _sources(self.root, left_out)
        self.keys = sorted(key for key in keys if not any(fnmatch(key, pattern) for pattern in exclude))

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        keys = of_split(self.keys, split, self.held_out_fraction)
        for key in seeded_order(keys, seed, epoch):
            text = _read_source(self.root / key)
            if text:
                yield Document(key, text, domain=_package(key))


def _sources(root: Path, left_out: Set[str]) -> Iterator[str]:
    """Relative paths of the files below a folder, without the folders of these names."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in left_out]
        for name in files:
            if name.endswith(".py"):
                yield Path(folder, name).relative_to(root).as_posix()


def _read_source(path: Path) -> str:
    """The file's text in its declared encoding; a deliberately broken test file reads as empty."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return ""


def _package(key: str) -> str:
    """The top-level package a file belongs to: `asyncio` for `asyncio/events.py`, `ast` for `ast.py`."""
    return key.split("/", 1)[0].removesuffix(".py")
