"""Dictionaries of other tools: one file a format, behind the protocol of `format.py`.

A new one is its file and its entry in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from sae_cli.artifacts.foreign_files import ForeignFiles, unreadable
from sae_cli.errors import RequestError
from sae_cli.runs.formats.dictionary_learning import DictionaryLearning
from sae_cli.runs.formats.format import Format, Imported, WritableFormat
from sae_cli.runs.formats.gemma_scope import GemmaScope, GemmaScope2
from sae_cli.runs.formats.linear import Goodfire, OpenAi, QwenScope
from sae_cli.runs.formats.openmoss import LlamaScope, OpenMoss
from sae_cli.runs.formats.saelens import SaeLens
from sae_cli.runs.formats.sparsify import Sparsify

FORMATS: tuple[Format, ...] = (
    SaeLens(),
    DictionaryLearning(),
    Sparsify(),
    GemmaScope(),
    GemmaScope2(),
    LlamaScope(),
    OpenMoss(),
    QwenScope(),
    OpenAi(),
    Goodfire(),
)
"""Those that are more particular come first."""

_MOST_FILES = 20_000


def format_of(files: ForeignFiles, name: str | None) -> Format:
    """The format of the files: the one of this name, or the first that recognises them.

    Raises:
        RequestError: there is no format of that name, or none that recognises them.
    """
    if name is not None:
        return _named(name, "format", FORMATS)
    found = next((each for each in FORMATS if each.recognise(files)), None)
    if found is None:
        known = ", ".join(each.name for each in FORMATS)
        shown = ", ".join(files.names()[:6]) or "no files"
        raise RequestError(f"{files.address}: expected a dictionary in one of the formats {known}, found {shown}")
    return found


def read(files: ForeignFiles, name: str | None = None) -> tuple[Format, Imported]:
    """The dictionary in the files, and the format that they are of; errors as `format_of`.

    Raises:
        JobError: a file is damaged, or says what cannot be represented exactly.
    """
    kind = format_of(files, name)
    found = kind.read(files)
    for tensor_name, tensor in found.dictionary.tensors().items():
        if not bool(tensor.isfinite().all()):
            raise unreadable(files.address, f"{tensor_name} of finite numbers in raw units", "NaN or infinity")
    return kind, found


def writable(name: str, others: Sequence[str] = ()) -> WritableFormat:
    """The format of this name that can be written; a `RequestError` where there is none, which names `others` too."""
    found = _named(name, "to", [each for each in FORMATS if isinstance(each, WritableFormat)], others)
    assert isinstance(found, WritableFormat)
    return found


def _named(name: str, key: str, formats: Sequence[Format], others: Sequence[str] = ()) -> Format:
    known = {each.name: each for each in formats}
    if name not in known:
        names = [*known, *others]
        close = get_close_matches(name, names, n=1)
        meant = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(names)}"
        raise RequestError(f"{key}={name}: {meant}")
    return known[name]


def dictionaries_in(names: list[str], name: str | None = None) -> list[str]:
    """Which of a folder's files and folders are dictionaries, by the names of its files; `.` is the folder itself.

    Args:
        names: of the files, relative to the folder, with `/`.
        name: of the only format that is looked for.
    """
    formats = FORMATS if name is None else (_named(name, "format", FORMATS),)
    found: dict[str, None] = {}
    for each in sorted(names):
        for kind in formats:
            mark = next((mark for mark in kind.marks if _matches(each, mark)), None)
            if mark is not None:
                parts = each.split("/")
                found["/".join(parts if kind.alone else parts[: len(parts) - len(mark.split("/"))]) or "."] = None
                break
    return [each for each in found if not any(_is_below(each, other) for other in found)]


def files_below(folder: Path) -> list[str]:
    """The names of all files below a folder, relative to it; a `RequestError` where these are too many to look at."""
    found: list[str] = []
    for each in folder.rglob("*"):
        if each.is_file():
            found.append(each.relative_to(folder).as_posix())
        if len(found) > _MOST_FILES:
            raise RequestError(f"{folder}: more than {_MOST_FILES:,} files: give the folder of a dictionary")
    return found


def _is_below(name: str, other: str) -> bool:
    """Whether it lies in the folder of another dictionary, as the checkpoints of a training do."""
    return name != other and (other == "." or name.startswith(f"{other}/"))


def _matches(name: str, mark: str) -> bool:
    parts, marks = name.split("/"), mark.split("/")
    last = parts[len(parts) - len(marks) :]
    return len(last) == len(marks) and all(map(fnmatch, last, marks))
