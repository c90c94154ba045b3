"""Which files a local path names: one file, what is below a folder, or what a pattern matches.

An existing path is itself, whatever characters are in it; only what does not exist is a pattern. Below the root, hidden
files and folders are skipped and links are followed, but no folder and no file is read twice. What is passed over is
said.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache, cached_property
from glob import glob, has_magic
from pathlib import Path

from sae_cli.errors import JobError, RequestError, is_out_of_memory
from sae_cli.terminal import console
from sae_cli.text.streams import COMPRESSED

_EXPECTED = "expected a file, a folder or a glob of text, found"
_SHOWN = 10
"""Names in a line about what is passed over."""
_COPY = re.compile(rf"(?is)(.+?)({'|'.join(map(re.escape, sorted(COMPRESSED - {'.zip'})))}|~)")
"""A name that is a copy of the file beside it without its end: compressed, or an editor's. What is in an archive is
compared file by file."""


@dataclass(frozen=True)
class LocalFiles:
    """The files that a path names.

    Attributes:
        files: by their name below the root (with `/`), which is the same wherever the root is and however it is spelt.
        single: whether the path names one file, not a folder or a pattern.
        passed_over: names of what is there and is not read, by the reason.
        again: further names of files, which links give them, and that by which each is read.
    """

    files: dict[str, Path]
    single: bool = False
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    again: dict[str, str] = field(default_factory=dict)

    @cached_property
    def all_names(self) -> frozenset[str]:
        """Of what is read, the further ones too."""
        return frozenset({*self.files, *self.again})

    def names_of(self, name: str) -> list[str]:
        """All names of a file that is read by this one."""
        return [name, *(other for other, first in self.again.items() if first == name)]

    def only(self, names: Iterable[str]) -> LocalFiles:
        """Those of these names."""
        files = {name: self.files[name] for name in sorted(names)}
        return replace(self, files=files, again={other: name for other, name in self.again.items() if name in files})

    def say(self, path: str) -> None:
        """A line for each reason for which something was passed over, once a process."""
        for reason, names in self.passed_over.items():
            say_passed_over(path, reason, names)


def say_passed_over(path: str, reason: str, names: Sequence[str]) -> None:
    """That files of `data.path=path` are not read, and why; once a process."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    console.warn_once(f"data.path={path}: passed over {reason} ({len(names):,}): {', '.join(names[:_SHOWN])}{more}")


class PassedOver:
    """Files that turn out not to be read while a text is: the first for a reason is said at once, all at the end.

    Args:
        path: of the text.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._names: dict[str, set[str]] = {}

    def add(self, name: str, reason: str) -> None:
        """Take note of one, which may be known from an earlier epoch."""
        names = self._names.setdefault(reason, set())
        names.add(name)
        if len(names) == 1:
            say_passed_over(self._path, reason, [name])

    def say(self) -> None:
        """After the last file."""
        for reason, names in self._names.items():
            say_passed_over(self._path, reason, sorted(names))


def local_path(path: str) -> Path:
    """The path with `~` for a home folder, as everywhere; a folder of that name is `./~`."""
    return Path(os.path.expanduser(path))


def is_local(path: str) -> bool:
    """Whether something has this name here, a broken link too."""
    return os.path.lexists(local_path(path))


def find_files(path: str) -> LocalFiles:
    """The files that `data.path` names.

    Raises:
        RequestError: there is none, or what is there is neither a file nor a folder.
        JobError: a folder cannot be read.
    """
    local = local_path(path)
    with unreadable(str(local)):
        if local.is_dir():
            found = _below(local)
        elif os.path.lexists(local):
            return _single(path, local)
        else:
            found = _matching(local)
    if not found.files:
        passed = "".join(f"; passed over {reason} ({len(names):,})" for reason, names in found.passed_over.items())
        raise RequestError(f"data.path={path}: {_EXPECTED} no file{passed}")
    return found


@contextmanager
def unreadable(where: str) -> Iterator[None]:
    """Within it, a file or folder that cannot be read is a `JobError`."""
    try:
        yield
    except OSError as error:
        if is_out_of_memory(error):
            raise
        raise JobError(f"{error.filename or where}: cannot be read: {error.strerror or error}") from error


def _single(path: str, file: Path) -> LocalFiles:
    if not file.exists():
        raise RequestError(f"data.path={path}: {_EXPECTED} a link to nothing")
    if not file.is_file():
        raise RequestError(f"data.path={path}: {_EXPECTED} {_kind(file)}, which cannot be read twice; write a file")
    # By the name of the file that a link leads to, as in its own folder; a store's file may lack the ending.
    target = Path(os.path.realpath(file))
    return LocalFiles({target.name if target.suffix == file.suffix else file.name: file}, single=True)


def _kind(path: Path) -> str:
    mode = path.stat().st_mode
    return "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"


def _below(folder: Path) -> LocalFiles:
    search = _Search(folder)
    search.below("")
    return search.found()


def _matching(pattern: Path) -> LocalFiles:
    """What a pattern matches. `**` stands for any number of folders, and is a search of its own, because links may lead
    in circles.

    Names are relative to what comes before the first wildcard, so that a copy elsewhere has the same split and order.
    """
    literal = _literal_parts(pattern.parts)
    root, parts = Path(*pattern.parts[:literal]), pattern.parts[literal:]
    search = _Search(root)
    if "**" not in parts:
        search.add(glob("/".join(parts), root_dir=root))
        return search.found()
    head = parts[: parts.index("**")]
    for folder in sorted(glob("/".join(head), root_dir=root)) if head else [""]:
        if (root / folder).is_dir():
            search.below(folder)
    return search.found(lambda name: _fits(name.split("/"), parts))


def _literal_parts(parts: Sequence[str]) -> int:
    """How many parts of a pattern are a folder's path: those without a wildcard, or that exist as they are."""
    n = 0
    while n < len(parts) - 1 and (not has_magic(parts[n]) or Path(*parts[: n + 1]).exists()):
        n += 1
    return n


def _fits(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether the parts of a file's name match those of a pattern."""
    if not parts:
        return not names
    if parts[0] == "**":
        return len(parts) == 1 or any(_fits(names[i:], parts[1:]) for i in range(len(names)))
    return bool(names) and fnmatchcase(names[0], parts[0]) and _fits(names[1:], parts[1:])


class _Search:
    """A search below a folder: first what is really there, then, in order of name, what links lead to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, Path] = {}
        self._name_of: dict[object, str] = {}
        self._again: dict[str, str] = {}  # further names of a file, and that which it is read by
        self._passed_over: dict[str, list[str]] = {}
        # A link to a folder that the root is in leads in a circle too.
        self._folders = {_identity(each) for each in Path(os.path.realpath(root)).parents}

    def found(self, wanted: Callable[[str], bool] = lambda name: True) -> LocalFiles:
        """What was found, in order of name."""
        files = {name: self._files[name] for name in sorted(self._files) if wanted(name)}
        for pair in reversed(_copies(sorted(filter(wanted, {*self._files, *self._again})))):
            copy, original = (self._again.get(name, name) for name in pair)
            if copy != original and copy in files and original in files:
                self._pass_over("copies of files beside them", copy)
                del files[copy]
        return LocalFiles(
            files,
            passed_over={reason: sorted(names) for reason, names in self._passed_over.items()},
            again={name: first for name, first in self._again.items() if first in files},
        )

    def below(self, folder: str) -> None:
        """Search a folder of this name below the root, and what links in it lead to."""
        links = sorted(self._real(folder))
        for name in links:  # which grows
            if not (path := self._root / name).is_dir():
                self._add(name)
            elif _identity(path) in self._folders:
                self._pass_over("links to folders that are read already, or that they are in", f"{name}/")
            else:
                links += sorted(self._real(name))

    def add(self, names: Iterable[str]) -> None:
        """Take files by name, real ones before links to them."""
        root = os.path.realpath(self._root)

        @cache
        def is_real(folder: Path) -> bool:
            return os.path.realpath(self._root / folder) == os.path.normpath(os.path.join(root, folder))

        def linked(name: str) -> bool:
            return (self._root / name).is_symlink() or not is_real(Path(name).parent)

        for name in sorted(names, key=lambda name: (linked(name), name)):
            if (self._root / name).is_dir():
                self._pass_over("folders, whose files a pattern names with /**", f"{name}/")
            else:
                self._add(name)

    def _real(self, folder: str) -> Iterator[str]:
        """Take what is really below a folder; gives the links."""
        waiting, files = [folder], []
        while waiting:
            folder = waiting.pop()
            if (identity := _identity(self._root / folder)) in self._folders:
                continue
            self._folders.add(identity)
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name.startswith("."):
                        self._pass_over("hidden files and folders", f"{name}/" if Path(entry.path).is_dir() else name)
                    elif entry.is_symlink():
                        yield name
                    elif entry.is_dir():  # which a link in circles would not answer
                        waiting.append(name)
                    else:
                        files.append(name)
        for name in sorted(files):
            self._add(name)

    def _add(self, name: str) -> None:
        path = self._root / name
        if not path.exists():
            self._pass_over("links to nothing", name)
        elif not path.is_file():
            self._pass_over("pipes, sockets and devices", name)
        elif (first := self._name_of.setdefault(_identity(path), name)) != name:
            self._again[name] = first
            self._pass_over("links to files that are read already", name)
        else:
            self._files[name] = path

    def _pass_over(self, reason: str, name: str) -> None:
        self._passed_over.setdefault(reason, []).append(name)


def _copies(names: Sequence[str]) -> list[tuple[str, str]]:
    """Those of names, in order, that are copies, and of what: of several compressed files the first is kept."""
    there, copies, first = set(names), [], {}
    for name in names:
        if not (original := _COPY.fullmatch(name)):
            continue
        if original[1] in there:
            copies.append((name, original[1]))
        elif original[2] != "~" and first.setdefault(original[1], name) != name:
            copies.append((name, first[original[1]]))
    return copies


def _identity(path: Path) -> object:
    """Equal for paths that lead to one file or folder."""
    about = os.stat(path)
    return (about.st_dev, about.st_ino) if about.st_ino else os.path.realpath(path)
