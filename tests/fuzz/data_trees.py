"""Folders of files as people have them, and which of their files are to be read: found without the product's search."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from data_files import Damaged, File, Mislabeled, Packed, Settings, ShufflePlan, fewer


@dataclass(frozen=True)
class Folder:
    """A folder, what is beside it, and how it is read. All names are relative to it, and may begin with `../`.

    Attributes:
        name: of the folder itself.
        files: by name.
        links: names and what they lead to.
        hard: names that are also names of other files.
        odd: pipes and sockets.
        settings: of the reader.
        fraction: the share that is held out.
        kind: what files of a data set hold (`data=hf`); empty for a folder of text.
        block: bytes that the reader takes at once.
    """

    name: str
    files: tuple[tuple[str, File], ...]
    links: tuple[tuple[str, str], ...] = ()
    hard: tuple[tuple[str, str], ...] = ()
    odd: tuple[str, ...] = ()
    settings: Settings = field(default_factory=Settings)
    fraction: float = 0.3
    kind: str = ""
    block: int = 2**20

    def write(self, place: Path) -> Path:
        """Make it in an empty folder; gives the folder's path."""
        root = place / self.name
        root.mkdir(parents=True)
        for name, file in self.files:
            _room(root, name).write_bytes(file.content())
        for name, target in self.hard:
            os.link(root / target, _room(root, name))
        for name, target in self.links:
            link = _room(root, name)
            # Within the folder a link is relative, so that it holds when the folder is moved.
            inside = not f"{target}/".startswith("../")
            link.symlink_to(os.path.relpath(root / target, link.parent) if inside else os.path.abspath(root / target))
        for number, name in enumerate(self.odd):
            _pipe(_room(root, name)) if number % 2 == 0 else _socket(_room(root, name))
        return root

    def smaller(self) -> Iterator[Folder]:
        """Simpler folders, of which one may fail as this one does."""
        for what in ("files", "links", "hard", "odd"):
            for less in fewer(getattr(self, what)):
                names = {name for name, _ in less} if what == "files" else {name for name, _ in self.files}
                hard = tuple(each for each in self.hard if each[1] in names)
                yield replace(self, **{"hard": hard, what: less})
        for number, (name, file) in enumerate(self.files):
            before, after = self.files[:number], self.files[number + 1 :]
            for less in file.smaller():
                shorter = name.removesuffix(file.ending) + less.ending if file.ending != less.ending else name
                if all(shorter != other for other, _ in (*before, *after)):
                    yield replace(self, files=(*before, (shorter, less), *after))
            plain = f"{number}{file.ending}"
            if name != plain and not name.startswith("../"):
                yield replace(self, files=(*before, (plain, file), *after))
        if (self.block, self.settings.long) != (2**20, 64_000):
            yield replace(self, block=2**20)
            yield replace(self, settings=replace(self.settings, long=64_000))
        if self.name != "root":
            yield replace(self, name="root")

    def kinds(self) -> Counter[str]:
        """What is in it, for counts."""
        found: Counter[str] = Counter()
        for name, file in self.files:
            found[f"file: {file.kind}"] += 1
            inner = file
            while isinstance(inner, Packed | Damaged | Mislabeled | ShufflePlan):
                inner = inner.of
                found[f"inside: {inner.kind}"] += 1
            found["ending: " + "".join(PurePosixPath(name).suffixes[-1:])[:12].lower()] += 1
            found["hidden"] += any(part.startswith(".") and part != ".." for part in name.split("/"))
            found["upper-case ending"] += PurePosixPath(name).suffix.isupper()
            found["name of other characters"] += not re.fullmatch(r"[\w./-]+", name, re.ASCII)
            found["glob characters"] += bool(re.search(r"[][*?]", name))
        found["link"] += len(self.links)
        found["hard link"] += len(self.hard)
        found["pipe or socket"] += len(self.odd)
        found["nested column"] += "." in self.settings.column
        found["domain column"] += bool(self.settings.domain)
        return found


def _room(root: Path, name: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listening:  # whose names are short
            listening.bind(f"/proc/self/fd/{here}/{path.name}")
    except OSError:
        os.mkfifo(path)
    finally:
        os.close(here)


@dataclass
class Reached:
    """What a search of a folder comes upon.

    Attributes:
        files: paths, each file once.
        paths: all that lead to a file, by that in `files`.
        said: how many names are passed over, by a word of the reason.
        folders_again: names of folders that lead to a folder that was found otherwise too, or to one around it.
        hidden: names.
    """

    files: list[str] = field(default_factory=list)
    paths: dict[str, set[str]] = field(default_factory=dict)
    said: Counter[str] = field(default_factory=Counter)
    folders_again: int = 0
    hidden: list[str] = field(default_factory=list)


_COMPRESSED = re.compile(r"(?is)(.+)\.(gz|bz2|xz|zst)")


def reach(root: Path) -> Reached:
    """Every file that a path without a hidden name leads to; of a copy beside a file, the file alone."""
    found = Reached()
    around = {_identity(each) for each in Path(os.path.realpath(root)).parents}
    folders, files, waiting = {_identity(root)}, {}, [str(root)]
    copies: set[Any] = set()
    paths: dict[Any, set[str]] = {}
    while waiting:
        folder = waiting.pop()
        there: dict[str, str] = {}
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if name.startswith("."):
                found.hidden.append(name)
            elif not os.path.exists(path):
                found.said["nothing"] += 1
            elif os.path.isdir(path):
                if (identity := _identity(path)) in around | folders:
                    found.folders_again += 1
                else:
                    folders.add(identity)
                    waiting.append(path)
            elif not os.path.isfile(path):
                found.said["pipes"] += 1
            else:
                paths.setdefault(_identity(path), set()).add(path)
                found.said["read already"] += _identity(path) in files
                if not os.path.islink(path) or _identity(path) not in files:
                    files[_identity(path)] = path
                there[name] = path
        copies |= {_identity(there[name]) for name in _copies(there) if not os.path.islink(there[name])}
    found.said["hidden files and folders"] = len(found.hidden)
    found.said["copies"] = len(copies & set(files))
    found.files = [path for identity, path in sorted(files.items()) if identity not in copies]
    found.paths = {files[identity]: each for identity, each in paths.items()}
    return found


def _copies(names: Iterable[str]) -> set[str]:
    """Copies of what is beside them: an editor's, or compressed ones; of several of these the first stays."""
    names = set(names)
    found = {name for name in names if name.endswith("~") and name[:-1] in names}
    first: set[str] = set()
    for name in sorted(names):
        if (compressed := _COMPRESSED.fullmatch(name)) is None:
            continue
        if compressed[1] in names or compressed[1] in first:
            found.add(name)
        first.add(compressed[1])
    return found


def _identity(path: str | Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_dev, about.st_ino
