"""The spans of every concept of Python equal those of a walk of its own over `ast` and `tokenize`: 500 functions of the
standard library; and sources made to be hard."""

import ast
import builtins
import io
import keyword
import sysconfig
import tokenize
from pathlib import Path
from typing import Any

import pytest

from sae_cli.text.concepts.labellers import DEFINITIONS, python_spans
from sae_cli.text.concepts.python_lexical import f_expressions
from sae_cli.text.python_files import read_source

LIBRARY = Path(sysconfig.get_path("stdlib"))
FILES = [
    "argparse.py", "ast.py", "asyncio/base_events.py", "asyncio/streams.py", "bdb.py", "calendar.py",
    "cgi.py", "collections/__init__.py", "codeop.py", "contextlib.py",
    "dataclasses.py", "fractions.py", "gzip.py",
    "json/decoder.py",
    "json/encoder.py", "unittest/loader.py", "unittest/mock.py", "statistics.py", "turtle.py", "locale.py",
]  # fmt: skip
DEFINED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Walk(ast.NodeVisitor):
    """In bytes, by visiting; a scope is a frame of the names that it binds and reads."""

    def __init__(self, text):
        self.bytes, self.text = text.encode(), text
        self.rows = [0]
        for line in self.bytes.split(b"\n"):
            self.rows.append(self.rows[-1] + len(line) + 1)
        self.found = {name.removeprefix("python."): set() for name in DEFINITIONS if name.startswith("python.")}
        self.frames, self.done = [], []

    def byte(self, row, column):
        return self.rows[row - 1] + column

    def chars(self, start, end):
        return len(self.bytes[:start].decode()), len(self.bytes[:end].decode())

    def ends(self, node):
        return self.byte(node.lineno, node.col_offset), self.byte(node.end_lineno, node.end_col_offset)

    def note(self, concept, start, end):
        if start < end:
            self.found[concept].add(self.chars(start, end))

    def at_name(self, concept, start):
        """The identifier of which the first letter is there."""
        rest = self.bytes[start : start + 400].decode(errors="ignore")
        end = next((i for i in range(1, len(rest) + 1) if not rest[:i].isidentifier()), len(rest) + 1) - 1
        self.note(concept, start, start + len(rest[:end].encode()))

    def after(self, start, word):
        """Where the next word begins after this one."""
        i = start + len(word)
        while self.bytes[i : i + 1] in b" \\\n\t":
            i += 1
        return i

    def body(self, concept, body):
        first = min([body[0].lineno, *(each.lineno for each in getattr(body[0], "decorator_list", []))])
        self.note(concept, self.byte(first, body[0].col_offset), self.ends(body[-1])[1])

    def bind(self, name, place):
        self.frames[-1][0].append((name, place))

    def visit_JoinedStr(self, node: Any) -> None:
        pass

    def visit_Module(self, node: Any) -> None:
        self.frames.append(([], []))
        self.generic_visit(node)
        self.done.append(self.frames.pop())
        module = self.done[-1][0]
        bound_anywhere = {name for bound, _ in self.done for name, _ in bound}
        for bound, read in self.done:
            for name, start, end in read:
                if any(other == name and place < start for other, place in [*bound, *module]):
                    self.note("defined", start, end)
                if hasattr(builtins, name) and name not in bound_anywhere:
                    self.note("builtin", start, end)

    def visit_arg(self, node: Any) -> None:
        start, _ = self.ends(node)
        self.at_name("self_param" if node.arg in ("self", "cls") else "param", start)
        self.bind(node.arg, start)
        self._annotated(node.annotation)
        self.generic_visit(node)

    def _annotated(self, annotation):
        if annotation is not None:
            self.note("annotation", *self.ends(annotation))

    def visit_AnnAssign(self, node: Any) -> None:
        self._annotated(node.annotation)
        self.generic_visit(node)

    def visit_keyword(self, node: Any) -> None:
        if node.arg:
            self.at_name("kwarg_name", self.ends(node)[0])
        self.generic_visit(node)

    def visit_Attribute(self, node: Any) -> None:
        end = self.ends(node)[1]
        self.note("attribute", end - len(node.attr.encode()), end)
        self.generic_visit(node)

    def visit_Call(self, node: Any) -> None:
        end_of_name = self.ends(node.func)[1]
        if isinstance(node.func, (ast.Name, ast.Attribute)):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            self.note("call_name", end_of_name - len(name.encode()), end_of_name)
        self.note("in_brackets_of_call", self.bytes.index(b"(", end_of_name) + 1, self.ends(node)[1] - 1)
        self.generic_visit(node)

    def visit_Import(self, node: Any) -> None:
        for alias in node.names:
            start, end = self.ends(alias)
            self.bind(alias.asname or alias.name.split(".")[0], start)
            place = start
            for part in self.bytes[start:end].decode().replace(".", " ").split():
                place = self.bytes.index(part.encode(), place)
                if part not in ("as", "*"):
                    self.note("import_name", place, place + len(part.encode()))
                place += len(part.encode())

    visit_ImportFrom = visit_Import

    def visit_Return(self, node: Any) -> None:
        if node.value:
            self.note("after_return", *self.ends(node.value))
        self.generic_visit(node)

    def visit_For(self, node: Any) -> None:
        self.body("in_loop", node.body)
        self.generic_visit(node)

    visit_While = visit_AsyncFor = visit_For

    def visit_Try(self, node: Any) -> None:
        self.body("in_try", node.body)
        self.generic_visit(node)

    visit_TryStar = visit_Try

    def visit_ExceptHandler(self, node: Any) -> None:
        if node.name:
            self.bind(node.name, self.ends(node)[0])
        self.generic_visit(node)

    def visit_Name(self, node: Any) -> None:
        start, end = self.ends(node)
        if isinstance(node.ctx, ast.Load):
            self.frames[-1][1].append((node.id, start, end))
        else:
            self.bind(node.id, start)

    def visit_MatchAs(self, node: Any) -> None:
        if node.name:
            self.bind(node.name, self.ends(node)[0])
        self.generic_visit(node)

    visit_MatchStar = visit_MatchAs

    def visit_ClassDef(self, node: Any) -> None:
        start = self.ends(node)[0]
        self.bind(node.name, start)
        self.at_name("class_name", self.after(start, b"class"))
        self.body("in_class", node.body)
        self._inside(node)

    def visit_FunctionDef(self, node: Any) -> None:
        start = self.ends(node)[0]
        self.bind(node.name, start)
        place = self.after(start, b"async") if isinstance(node, ast.AsyncFunctionDef) else start
        self.at_name("def_name", self.after(place, b"def"))
        self._annotated(node.returns)
        self.body("in_function", node.body)
        if node.name[:4] == "test":
            self.body("in_test_function", node.body)
        self._inside(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _inside(self, node):
        for each in node.decorator_list:
            self.note("decorator", *self.ends(each))
        self.frames.append(([], []))
        self.generic_visit(node)
        self.done.append(self.frames.pop())


def lexical(text, found):
    """From tokens as they come, line by line, in characters."""
    lines = text.split("\n")
    before = [sum(len(line) + 1 for line in lines[:row]) for row in range(len(lines) + 1)]
    documented = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, *DEFINED)) and ast.get_docstring(node) is not None:
            one: Any = node.body[0]
            one = one.value
            documented.add((one.lineno, one.end_lineno))
    words, deep, at_start = set(), 0, True
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type != tokenize.ENDMARKER]
    for token in tokens:
        start, end = (before[row - 1] + column for row, column in (token.start, token.end))
        span, kind = (start, min(end, len(text))), tokenize.tok_name[token.type]
        if kind in ("INDENT", "DEDENT"):
            deep += 1 if kind == "INDENT" else -1
            continue
        if kind == "NL":
            continue
        if kind == "COMMENT":
            found["comment"].add(span)
            continue
        if at_start:
            line_start, at_start = start, False
            if token.start[1]:
                found["indent"].add((start - token.start[1], start))
        if kind == "NEWLINE":
            at_start = True
            if span[0] < span[1]:
                found["newline"].add(span)
            if deep > 2:
                found["depth3"].add((line_start, span[1]))
        elif kind == "NAME" and keyword.iskeyword(token.string):
            found["keyword"].add(span)
        elif kind == "NAME":
            found["identifier"].add(span)
            if any(abs(start - place) <= 1000 for word, place in words if word == token.string):
                found["seen"].add(span)
            words.add((token.string, start))
            words = {(word, place) for word, place in words if place > start - 2000}
        elif kind == "STRING":
            inside = any(a <= token.start[0] and token.end[0] <= b for a, b in documented)
            found["docstring" if inside else "string"].add(span)
            for a, b in braces(token.string):
                found["fstring_expr"].add((start + a, start + b))
        elif kind in ("NUMBER", "OP"):
            found[{"NUMBER": "number", "OP": "operator"}[kind]].add(span)


def braces(literal):
    """By what Python itself makes of the literal: the pieces between constants, found again in order."""
    if "f" not in literal.split(literal[-1])[0].lower():
        return
    depth, start = 0, 0
    text = literal.replace("{{", "\0\0").replace("}}", "\0\0") if "{{" in literal and "}}}" not in literal else literal
    for i, sign in enumerate(text):
        if sign == "{":
            start = i if depth == 0 else start
            depth += 1
        elif sign == "}":
            depth -= 1
            if depth == 0:
                yield start, i + 1


def expected(text):
    walk = Walk(text)
    walk.visit(ast.parse(text))
    lexical(text, walk.found)
    return walk.found


def test_spans_equal_those_of_another_walk():
    functions = 0
    for name in FILES:
        if not (text := read_source(LIBRARY / name)):
            continue  # not in every version
        functions += sum(isinstance(node, DEFINED[1:]) for node in ast.walk(ast.parse(text)))
        found = python_spans(text)
        assert found is not None, name
        other = expected(text)
        for concept in other:
            assert set(found[concept]) == other[concept], (name, concept)
            assert len(set(found[concept])) == len(found[concept])
    assert functions >= 500


HARD = '''# ünïcode first: é
"""Döcstring."""
import os.path as öp, sys
from x import (a as b,
    c)

@deco.rator(1)
class Äpfel(Base, metaclass=M):
    "another"
    @property
    async def tést(self, /, größe: int = 3, *args: "str", key=None, **kw) -> dict[str, int]:
        """Three"""
        for i in range(größe):
            while True:
                try:
                    return (self.f)(i, größe=i)[0].attr  # é
                except (ValueError, TypeError) as error:
                    raise error
        x = f"é {größe!r:>{i}} {{no}} {'}' + d['k']} " "and"
        return lambda q: [y for y in q if len(y)]
def test_it(): assert print(sorted); list = 3
'''


def test_hard_sources():
    found, other = python_spans(HARD), expected(HARD)
    assert found is not None
    for concept in other:
        if concept != "fstring_expr":
            assert set(found[concept]) == other[concept], concept
    said = {name: [HARD[a:b] for a, b in spans] for name, spans in found.items()}
    assert said["fstring_expr"] == ["{größe!r:>{i}}", "{'}' + d['k']}"]
    assert said["docstring"] == ['"""Döcstring."""', '"another"', '"""Three"""']
    assert said["param"] == ["größe", "args", "key", "kw", "q"] and said["self_param"] == ["self"]
    assert said["builtin"] == [
        "property",
        "int",
        "dict",
        "str",
        "int",
        "range",
        "ValueError",
        "TypeError",
        "len",
        "print",
        "sorted",
    ]
    assert said["in_test_function"] == ["assert print(sorted); list = 3"]
    assert "error" in said["defined"] and "c" not in said["defined"]


@pytest.mark.parametrize("text", ["def f(:", "x = 1\ry = 2\r", "\0", "if x:\n  a\n b", "é = '"])
def test_what_is_no_python_has_no_spans(text):
    assert python_spans(text) is None


@pytest.mark.parametrize(
    ("literal", "found"),
    [
        ('"{x}"', []),
        ("f'{x}{y!r}'", ["{x}", "{y!r}"]),
        ("rf'\\{x}'", ["{x}"]),
        (r"f'\{x}\N{DASH}{y}'", ["{y}"]),
        ("f'''{ {1: 2}[1] }''' ", ["{ {1: 2}[1] }"]),
    ],
)
def test_expressions_in_f_strings(literal, found):
    literal = literal.strip()
    assert [literal[a:b] for a, b in f_expressions(literal)] == found
