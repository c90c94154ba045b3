"""Concepts that Python's tokens are of: what kind each is, and what a line and a string are made of."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from keyword import iskeyword

from sae_cli.text.concepts.python_source import PythonSource, Span

LEXICAL = {
    "keyword": "a word of Python's own, True, False and None too",
    "identifier": "any other name",
    "number": "a number",
    "operator": "an operator, a bracket, or another sign",
    "comment": "a comment, from its # to the end of the line",
    "string": "a string with its quotes and prefix, but no docstring",
    "docstring": "the string that a module, class or function begins with",
    "fstring_expr": "an expression in an f-string, with its braces",
    "indent": "blanks at the start of a logical line",
    "newline": "the end of a logical line",
    "depth3": "a logical line that is indented three times or more",
    "seen": "an identifier that also occurs in the thousand characters before it",
}
"""Names and definitions."""

_PREFIX = re.compile(r"[A-Za-z]*")
_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_NO_LINE = (tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
_DEEP, _FAR = 3, 1000


def lexical_spans(source: PythonSource) -> dict[str, list[Span]]:
    """Where each of `LEXICAL` holds."""
    found: dict[str, list[Span]] = {name: [] for name in LEXICAL}
    found["docstring"] = list(_docstrings(source))
    documented, last = set(found["docstring"]), dict[str, int]()
    kinds = {tokenize.NUMBER: "number", tokenize.OP: "operator", tokenize.COMMENT: "comment"}
    for piece in source.pieces:
        if name := kinds.get(piece.kind):
            found[name].append(piece.span)
        elif piece.kind == tokenize.NAME:
            is_own = iskeyword(piece.text)
            found["keyword" if is_own else "identifier"].append(piece.span)
            if not is_own:
                near = piece.start - last.get(piece.text, -_FAR) <= _FAR
                found["seen"] += [piece.span] if piece.text in last and near else []
                last[piece.text] = piece.start
        elif piece.kind == tokenize.STRING:
            found["string"] += [] if piece.span in documented else [piece.span]
            found["fstring_expr"] += f_expressions(piece.text, piece.start)
        elif piece.kind == tokenize.NEWLINE and piece.end > piece.start:
            found["newline"].append(piece.span)
    for line, level in _logical_lines(source):
        begin = source.text.rfind("\n", 0, line[0]) + 1
        found["indent"] += [(begin, line[0])] if begin < line[0] else []
        found["depth3"] += [line] if level >= _DEEP else []
    return found


def _docstrings(source: PythonSource) -> Iterator[Span]:
    """Each string literal of the docstrings, in order; of one in brackets the string alone."""
    spans = []
    for node in source.nodes:
        if isinstance(node, _DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            spans.append(source.span(first.value))
    strings = [each.span for each in source.pieces if each.kind == tokenize.STRING]
    for begin, end in sorted(spans):
        yield from (each for each in strings if begin <= each[0] and each[1] <= end)


def _logical_lines(source: PythonSource) -> Iterator[tuple[Span, int]]:
    """Each logical line, from its first token to its end, and how often it is indented."""
    level, start = 0, -1
    for piece in source.pieces:
        level += (piece.kind == tokenize.INDENT) - (piece.kind == tokenize.DEDENT)
        if piece.kind == tokenize.NEWLINE and start >= 0:
            yield (start, piece.end), level
            start = -1
        elif piece.kind not in _NO_LINE and start < 0:
            start = piece.start


def f_expressions(literal: str, offset: int = 0) -> Iterator[Span]:
    """The outermost expressions of an f-string, each from its opening brace to its closing one, its format too.

    Args:
        literal: a string literal of any kind; others than f-strings have none.
        offset: where it begins.
    """
    match = _PREFIX.match(literal)
    prefix = match[0] if match else ""
    if "f" not in prefix.lower():
        return
    quote = literal[len(prefix)] * (3 if literal[len(prefix) :][:3] in ('"""', "'''") else 1)
    i, end = len(prefix) + len(quote), len(literal) - len(quote)
    raw = "r" in prefix.lower()
    while i < end:
        if literal[i] == "\\" and not raw:
            named = literal.startswith("\\N{", i)
            i = literal.index("}", i) + 1 if named else i + 2
        elif literal[i : i + 2] in ("{{", "}}"):
            i += 2
        elif literal[i] == "{":
            close = _closing(literal, i, end)
            yield offset + i, offset + close
            i = close
        else:
            i += 1


def _closing(literal: str, start: int, end: int) -> int:
    """After the brace that closes the one at `start`; braces inside strings do not count."""
    depth, quote, i = 0, "", start
    while i < end:
        sign = literal[i]
        if quote:
            if literal.startswith(quote, i):
                i, quote = i + len(quote) - 1, ""
        elif sign in "'\"":
            quote = sign * (3 if literal[i : i + 3] == sign * 3 else 1)
            i += len(quote) - 1
        elif sign in "{[(":
            depth += 1
        elif sign in "}])":
            depth -= 1
            if not depth:
                return i + 1
        i += 1
    return end
