"""A Python source as `tokenize` and `ast` see it, with every place as a number of characters from its start."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import NamedTuple

Span = tuple[int, int]
"""Where something begins and where it ends, in characters."""

_UNREADABLE = (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError, IndentationError)
_PLACELESS = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop)
_F_START = getattr(tokenize, "FSTRING_START", -1)
_F_END = getattr(tokenize, "FSTRING_END", -1)


class Piece(NamedTuple):
    """A token of Python: its kind (a constant of `tokenize`), its text, and where it is."""

    kind: int
    text: str
    start: int
    end: int

    @property
    def span(self) -> Span:
        return self.start, self.end


class PythonSource:
    """A source that this version of Python can read.

    F-strings are one piece of kind STRING in every version: what is inside is neither among `pieces` nor `nodes`.

    Attributes:
        text: the source.
        tree: of its syntax.
        nodes: of the tree that have places.
        pieces: its tokens in order, of which those that end logical lines, and indentation, may be empty.
        names: those that are identifiers or keywords.
    """

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.text, self.tree = text, tree
        self._lines = text.split("\n")
        self._starts = [0, *accumulate(len(line) + 1 for line in self._lines)]
        self.nodes = walk(tree)
        self.pieces = list(self._read())
        self.names = [each for each in self.pieces if each.kind == tokenize.NAME]
        self._name_starts = [each.start for each in self.names]
        self._brackets = [each for each in self.pieces if each.text == "(" and each.kind == tokenize.OP]
        self._bracket_starts = [each.start for each in self._brackets]

    @staticmethod
    def of(text: str) -> PythonSource | None:
        """The source; None of what this version cannot read, or whose lines end in lone carriage returns."""
        if "\r" in text.replace("\r\n", ""):
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes that a later Python will refuse
                return PythonSource(text, ast.parse(text))
        except _UNREADABLE:
            return None

    def at(self, line: int, column: int) -> int:
        """The place that `ast` calls so: lines from 1, columns in bytes of UTF-8."""
        if not (found := self._lines[line - 1]).isascii():
            column = len(found.encode()[:column].decode())
        return self._starts[line - 1] + column

    def span(self, node: ast.expr | ast.stmt | ast.arg | ast.alias | ast.keyword) -> Span:
        """Where a node is."""
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)

    def name_from(self, start: int) -> int:
        """The number among `names` of the first that begins there or later."""
        return bisect_left(self._name_starts, start)

    def name_at(self, start: int) -> Span:
        """The identifier that begins there or next."""
        return self.names[self.name_from(start)].span

    def last_name(self, end: int) -> Span:
        """The last identifier that begins before this place."""
        return self.names[self.name_from(end) - 1].span

    def bracket_after(self, place: int) -> int:
        """Where the first round bracket that opens there or later does."""
        return self._bracket_starts[bisect_left(self._bracket_starts, place)]

    def _read(self) -> Iterator[Piece]:
        depth, begun, starts, last = 0, 0, self._starts, len(self.text)
        for kind, text, (row, column), (end_row, end_column), _ in tokenize.generate_tokens(
            io.StringIO(self.text).readline
        ):
            start = min(starts[row - 1] + column, last)
            end = min(starts[end_row - 1] + end_column, last)
            if kind == _F_START:
                begun = begun if depth else start
                depth += 1
            elif kind == _F_END:
                depth -= 1
                if not depth:
                    yield Piece(tokenize.STRING, self.text[begun:end], begun, end)
            elif not depth:
                yield Piece(kind, text, start, end)


def children(node: ast.AST) -> list[ast.AST]:
    """The nodes in a node that have places; none of an f-string, whose places earlier Pythons do not know."""
    if isinstance(node, ast.JoinedStr):
        return []
    found = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [each for each in value if isinstance(each, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, _PLACELESS):
            found.append(value)
    return found


def walk(node: ast.AST) -> list[ast.AST]:
    """A node and all nodes in it; see `children`."""
    found = [node]
    for each in found:
        found += children(each)
    return found
