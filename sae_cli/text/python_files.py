"""Python source files below a folder: which there are, their text, and the prose in their docstrings."""

from __future__ import annotations

import ast
import os
import tokenize
import warnings
from collections.abc import Iterator, Set
from pathlib import Path


def sources(root: Path, left_out: Set[str]) -> Iterator[str]:
    """Relative paths of the `.py` files below a folder, without the folders of these names."""
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in left_out]
        for name in files:
            if name.endswith(".py"):
                yield Path(folder, name).relative_to(root).as_posix()


def read_source(path: Path) -> str:
    """The file's text in its declared encoding; a deliberately broken test file reads as empty."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError, LookupError):
        return ""


def docstrings(source: str) -> str:
    """The docstrings of a module, its classes and its functions, in their order, with a blank line between them.

    Without those of a single line, most of which say a name again. Of what is no Python of this version, nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that a later Python will refuse
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    nodes.sort(key=lambda node: node.body[0].lineno)
    found = (ast.get_docstring(node) for node in nodes)
    return "\n\n".join(text for text in found if text and "\n" in text)


def package(key: str) -> str:
    """The top-level package a file belongs to: `asyncio` for `asyncio/events.py`, `ast` for `ast.py`."""
    return key.split("/", 1)[0].removesuffix(".py")
