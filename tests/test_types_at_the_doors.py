"""What is public says what it takes and gives: `Any` stands only where a document of unknown content comes in."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sae_cli"
BORDERS = {
    "artifacts/json_document.py": "JSON, checked to be strict and small: whoever reads it knows what it should hold",
    "artifacts/manifest.py": "settings and facts as a manifest has them, of which each command has its own",
    "artifacts/stored_run.py": "JSON of a run, by the name of its file",
    "artifacts/tensors.py": "the metadata of a safetensors file, which is JSON",
    "config/plain_yaml.py": "YAML, checked to hold plain values",
    "config/several.py": "OmegaConf has no type for a text or a list of them; to type checkers it is just that",
}
"""The modules whose public signatures may have `Any`, and what comes in there."""
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}


def anything_in(body: list[ast.stmt]) -> Iterator[str]:
    """The public functions, attributes and type aliases whose annotation has `Any`."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                annotations, name = [*_of_arguments(node.args), node.returns], node.name
            case ast.ClassDef():
                inner = anything_in(node.body) if _is_public(node.name) else ()
                yield from (f"{node.name}.{each}" for each in inner)
                continue
            case ast.If():
                yield from anything_in([*node.body, *node.orelse])
                continue
            case ast.AnnAssign(target=ast.Name(id=name)):
                # What an alias stands for is its value.
                annotations = [node.annotation, node.value if _is("TypeAlias", node.annotation) else None]
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp() | ast.Name()):
                annotations = [node.value]
            case _:
                continue
        if _is_public(name) and any(_is("Any", each) for each in annotations if each is not None):
            yield name


def _of_arguments(given: ast.arguments) -> Iterator[ast.expr | None]:
    for each in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg):
        yield each and each.annotation


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__call__")


def _is(name: str, annotation: ast.expr) -> bool:
    """Whether an annotation names this, be it inside of something or in quotes."""
    for each in ast.walk(annotation):
        match each:
            case ast.Name(id=found) | ast.Attribute(attr=found) | ast.Constant(value=str(found)):
                if re.search(rf"\b{name}\b", found):
                    return True
    return False


def test_what_is_public_has_types():
    found = {name: names for name, source in SOURCES.items() if (names := list(anything_in(ast.parse(source).body)))}
    assert not {name: names for name, names in found.items() if name not in BORDERS}
    assert found.keys() == BORDERS.keys(), "a module that has no need of it leaves the list"


@pytest.mark.parametrize(
    "source",
    [
        "def f(a: Any): ...",
        "def f(*a: Any): ...",
        "def f(*, a: dict[str, Any]): ...",
        "async def f() -> Callable[[Any], None]: ...",
        "def f(a: 'list[Any]'): ...",
        "def f() -> typing.Any: ...",
        "class C:\n    a: Any",
        "class C:\n    def __call__(self, a: Any): ...",
        "C = dict[str, Any]",
        "C: TypeAlias = Mapping[str, Any] | None",
        "if TYPE_CHECKING:\n    C = str\nelse:\n    C = Any",
    ],
)
def test_anything_is_found(source):
    assert list(anything_in(ast.parse(source).body))


def test_what_is_private_may_be_anything():
    assert not list(anything_in(ast.parse("def _f(a: Any): ...\nclass _C:\n    a: Any\nb: int = Any").body))
