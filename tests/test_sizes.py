"""Functions that can be held in the head, and modules that are read in one go."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

from tests.known import present

PACKAGE = Path(__file__).parents[1] / "sae_cli"
MOST_LINES_OF_A_FUNCTION, MEDIAN_LINES_OF_FUNCTIONS, MOST_LINES_OF_A_MODULE = 60, 8, 350
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def functions():
    """Every function with its length: the signature's lines too."""
    for name, source in SOURCES.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name}:{node.lineno} {node.name}", present(node.end_lineno) - node.lineno + 1


def test_no_function_is_long():
    long = {name: lines for name, lines in functions() if lines > MOST_LINES_OF_A_FUNCTION}
    assert not long
    assert median(lines for _, lines in functions()) <= MEDIAN_LINES_OF_FUNCTIONS


def test_no_module_is_long():
    lines = {name: source.count("\n") for name, source in SOURCES.items()}
    assert len(lines) > 200
    assert not {name: n for name, n in lines.items() if n > MOST_LINES_OF_A_MODULE}
