"""Local text: plain files and files of records, by file, folder or glob."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath

from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.text.content import Content, RecordFormat, plain_text
from sae_cli.text.documents import Document, is_held_out, seeded_order
from sae_cli.text.local_files import PassedOver, find_files
from sae_cli.text.records import READERS
from sae_cli.text.streams import Source, sources, text_of, what_is_no_text

# A longer plain-text file (a book, a dump) is several documents, or the split would be all or nothing.
_LONG_FILE = 64_000
_BLANK_LINES = re.compile(r"\n\s*\n")


class TextCorpus:
    """Files of records (the endings in `READERS`) and of plain text (every other ending), also compressed.

    A document's key is made of the file's name below the root and its number in the file, so that the split does not
    depend on where the root is or how it is spelt. Files that are no text are passed over, and that is said.

    Args:
        path: a file, a folder (read recursively) or a glob.
        column: the field of a record that holds its text.
        domain: the field of a record that names its domain; empty for the file's folder.
        held_out_fraction: share of documents, by hash of their key, kept from training.
        content: what that field holds; plain files hold text only.
    """

    def __init__(
        self, path: str, column: str, domain: str, held_out_fraction: float, content: Content = plain_text
    ) -> None:
        self.path, self.held_out_fraction = path, held_out_fraction
        self._format = RecordFormat(column, domain, content)
        self._found = find_files(path)
        self._found.say(path)
        self.files = self._found.files
        self._passed_over = PassedOver(path)

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        """Those of the corpus's files; see `Corpus`.

        Raises:
            RequestError: none of the files is text, or a field is missing or holds no text.
            JobError: a file is not what its ending says, or cannot be read.
        """
        read = False
        for name in seeded_order(self.files, seed, epoch):
            for source in sources(name, self.files[name], self._found.all_names, self._found.names_of(name)):
                if reason := self._no_text(source):
                    self._pass_over(source, reason)
                else:
                    read = True
                    yield from self._documents_of(source, self.files[name], split)
        self._passed_over.say()
        if not read:
            wanted = "text" if self._format.content is plain_text else "records"
            raise RequestError(f"data.path={self.path}: expected {wanted}, found none in {len(self.files):,} files")

    def _documents_of(self, source: Source, file: Path, split: Split) -> Iterator[Document]:
        def wanted(key: str) -> bool:
            return is_held_out(key, self.held_out_fraction) == (split is Split.held_out)

        folder = folder_of(source.key, file)
        if read := READERS.get(source.ending):
            records = enumerate(read(source, self._format.columns))
            yield from self._format.documents(source.key, source.where, records, folder, wanted)
        else:
            for key, text in _keyed(source.key, _cut_at_blank_lines(text_of(source))):
                if text and wanted(key):
                    yield Document(key, text, folder)

    def _no_text(self, source: Source) -> str:
        """Why a file is not read, if it is not."""
        if source.unread or source.ending in READERS:
            return source.unread
        if kind := what_is_no_text(source):
            return f"{kind}, no text"
        return "" if self._format.content is plain_text else "plain text, which has no fields"

    def _pass_over(self, source: Source, reason: str) -> None:
        if self._found.single and source.key in self.files:
            wanted = "text" if self._format.content is plain_text else "records"
            raise RequestError(f"data.path={self.path}: expected {wanted}, found {reason}")
        self._passed_over.add(source.key, reason)


def _keyed(name: str, pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The name is the key of what is in one piece; of several, each has its number too."""
    pieces = iter(pieces)
    first, second = next(pieces, ""), next(pieces, None)
    if second is None:
        yield name, first
        return
    yield f"{name}:0", first
    yield f"{name}:1", second
    for index, text in enumerate(pieces, 2):
        yield f"{name}:{index}", text


def _cut_at_blank_lines(text: Iterable[str]) -> Iterator[str]:
    """The text itself, or pieces of about `_LONG_FILE` characters that end at blank lines.

    Args:
        text: in parts, of which no more are held than a piece needs.
    """
    held, searched = "", 0
    for part in text:
        held += part
        # Blank lines at the end may go on in the next part.
        if filled := part.rstrip():
            end = len(held) - len(part) + len(filled)
            cuts = _cuts(held, searched, end)
            yield from (held[start:cut] for start, cut in pairwise([0, *cuts]))
            start = cuts[-1] if cuts else 0
            searched, held = end - 1 - start, held[start:]
    cuts = _cuts(held, searched, len(held))
    yield from (held[start:cut] for start, cut in pairwise([0, *cuts, len(held)]) if start < cut)


def _cuts(text: str, searched: int, end: int) -> list[int]:
    """Where a text is cut: at the ends of blank lines that are far enough from the start, or from the last cut."""
    cuts: list[int] = []
    for blank in _BLANK_LINES.finditer(text, searched, end):
        if blank.end() - (cuts[-1] if cuts else 0) >= _LONG_FILE:
            cuts.append(blank.end())
    return cuts


def folder_of(name: str, file: Path) -> str:
    """The name of the folder that a file is in, which is its domain where nothing else is said."""
    return PurePosixPath(name).parent.name or Path(os.path.realpath(file.parent)).name
