"""Concepts that Python's syntax gives to a name or to a stretch of code."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator

from sae_cli.text.concepts.python_source import PythonSource, Span, children

ROLES = {
    "param": "the name of a parameter, but self and cls",
    "self_param": "self or cls as a parameter",
    "kwarg_name": "the name of an argument in a call",
    "attribute": "the name after a dot",
    "call_name": "the name that is called, of a.b() the b",
    "def_name": "the name of a function where it is defined",
    "class_name": "the name of a class where it is defined",
    "import_name": "a name in an import",
    "decorator": "a decorator, without its @",
    "builtin": "a builtin that is read, of a name that the document binds nowhere",
    "annotation": "an annotation of a type",
    "in_class": "the body of a class",
    "in_function": "the body of a function",
    "in_loop": "the body of a loop",
    "in_try": "what is tried",
    "in_test_function": "the body of a function whose name begins with test",
    "after_return": "what a function returns",
    "in_brackets_of_call": "between the brackets of a call",
    "defined": "a name that is read and was bound earlier in the function or class around it, or in the module",
}
"""Names and definitions."""

_BUILTINS = frozenset(dir(builtins))
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_OWN = ("self", "cls")
_IMPORTING = ("import", "as", "from")


def role_spans(source: PythonSource) -> dict[str, list[Span]]:
    """Where each of `ROLES` holds, in the order of the text."""
    found: dict[str, set[Span]] = {name: set() for name in ROLES}
    for node in source.nodes:
        for name, span in _of_node(source, node):
            if span[0] < span[1]:
                found[name].add(span)
    for name, span in _of_names(source):
        found[name].add(span)
    return {name: sorted(spans) for name, spans in found.items()}


def _of_node(source: PythonSource, node: ast.AST) -> Iterator[tuple[str, Span]]:
    match node:
        case ast.arg():
            yield "self_param" if node.arg in _OWN else "param", source.name_at(source.span(node)[0])
            if node.annotation:
                yield "annotation", source.span(node.annotation)
        case ast.AnnAssign():
            yield "annotation", source.span(node.annotation)
        case ast.keyword(arg=str()):
            yield "kwarg_name", source.name_at(source.span(node)[0])
        case ast.Attribute():
            yield "attribute", source.last_name(source.span(node)[1])
        case ast.Call():
            _, end = source.span(node)
            if isinstance(node.func, ast.Name | ast.Attribute):
                yield "call_name", source.last_name(source.span(node.func)[1])
            yield "in_brackets_of_call", (source.bracket_after(source.span(node.func)[1]) + 1, end - 1)
        case ast.Import() | ast.ImportFrom():
            for alias in node.names:
                yield from (("import_name", each) for each in _names_in(source, source.span(alias)))
        case ast.Return(value=ast.expr()):
            assert node.value
            yield "after_return", source.span(node.value)
        case ast.For() | ast.AsyncFor() | ast.While():
            yield "in_loop", _body(source, node.body)
        case ast.Try() | ast.TryStar():
            yield "in_try", _body(source, node.body)
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _of_definition(source, node)


def _of_definition(
    source: PythonSource, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
) -> Iterator[tuple[str, Span]]:
    is_class = isinstance(node, ast.ClassDef)
    words = 1 + isinstance(node, ast.AsyncFunctionDef)  # before the name
    name = source.names[source.name_from(source.span(node)[0]) + words].span
    yield "class_name" if is_class else "def_name", name
    yield "in_class" if is_class else "in_function", _body(source, node.body)
    yield from (("decorator", source.span(each)) for each in node.decorator_list)
    if not isinstance(node, ast.ClassDef):
        if node.returns:
            yield "annotation", source.span(node.returns)
        if node.name.startswith("test"):
            yield "in_test_function", _body(source, node.body)


def _body(source: PythonSource, body: list[ast.stmt]) -> Span:
    """From where the first statement begins, with its decorators, to where the last one ends."""
    first = body[0]
    decorated = getattr(first, "decorator_list", [])
    line = min([first.lineno, *(each.lineno for each in decorated)])
    return source.at(line, first.col_offset), source.span(body[-1])[1]


def _names_in(source: PythonSource, span: Span) -> Iterator[Span]:
    for each in source.names[source.name_from(span[0]) : source.name_from(span[1])]:
        if each.text not in _IMPORTING:
            yield each.span


def _of_names(source: PythonSource) -> Iterator[tuple[str, Span]]:
    """`builtin` and `defined`, which depend on where names are bound."""
    scopes: list[tuple[ast.AST, list[tuple[str, int]], list[tuple[str, Span]]]] = []
    _collect(source, source.tree, scopes, None)
    module = scopes[0][1]
    everywhere = {name for _, bound, _ in scopes for name, _ in bound}
    of_module = _earliest(module)
    for _, bound, read in scopes:
        here = _earliest(bound)
        for name, span in read:
            if min(here.get(name, span[0]), of_module.get(name, span[0])) < span[0]:
                yield "defined", span
            if name in _BUILTINS and name not in everywhere:
                yield "builtin", span


def _earliest(bound: list[tuple[str, int]]) -> dict[str, int]:
    places: dict[str, int] = {}
    for name, place in bound:
        places[name] = min(place, places.get(name, place))
    return places


def _collect(source: PythonSource, node: ast.AST, scopes: list, scope: tuple | None) -> None:
    """The names that each module, class and function binds, and those that it reads; comprehensions and lambdas belong
    to what they are in."""
    if scope is None:
        scopes.append(scope := (node, [], []))
    for child in children(node):
        own = scope
        match child:
            case ast.Name(ctx=ast.Load()):
                scope[2].append((child.id, source.span(child)))
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                scope[1].append((child.name, source.span(child)[0]))
                scopes.append(own := (child, [], []))
            case _:
                scope[1].extend(_bound(source, child))
        _collect(source, child, scopes, own)


def _bound(source: PythonSource, node: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that a node binds by itself, and where."""
    match node:
        case ast.Name():
            yield node.id, source.span(node)[0]
        case ast.arg():
            yield node.arg, source.span(node)[0]
        case ast.alias():
            yield node.asname or node.name.partition(".")[0], source.span(node)[0]
        case ast.ExceptHandler(name=str()) | ast.MatchAs(name=str()) | ast.MatchStar(name=str()):
            yield node.name, source.at(node.lineno, node.col_offset)  # type: ignore[misc]
        case ast.MatchMapping(rest=str()):
            yield node.rest, source.at(node.lineno, node.col_offset)  # type: ignore[misc]
