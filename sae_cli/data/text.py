"""Local text: plain files, JSON lines and parquet, by file, folder or glob."""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import glob, has_magic
from itertools import takewhile
from pathlib import Path
from typing import Any

from sae_cli.config.split import Split
from sae_cli.data.documents import Document, is_held_out, seeded_order
from sae_cli.errors import JobError, RequestError, denied

_TABLES = {".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
# A longer plain-text file (a book, a dump) is several documents, or the split would be all or nothing.
_LONG_FILE = 64_000


class TextCorpus:
    """Files of `.txt` (any other ending reads as plain text), `.jsonl` and `.parquet`.

    Args:
        path: a file, a folder (read recursively) or a glob.
        column: the field of a record that holds its text.
        domain: the field of a record that names its domain; empty for the file's folder.
        held_out_fraction: share of documents, by hash of their key, kept from training.
    """

    def __init__(self, path: str, column: str, domain: str, held_out_fraction: float) -> None:
        self.column, self.domain, self.held_out_fraction = column, domain, held_out_fraction
        root = _root(path)
        self.files = {file.relative_to(root).as_posix(): file for file in _find_files(path)}

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        for name in seeded_order(self.files, seed, epoch):
            for document in self._documents_of(name, self.files[name]):
                if document.text and is_held_out(document.key, self.held_out_fraction) == (split is Split.held_out):
                    yield document

    def _documents_of(self, name: str, file: Path) -> Iterator[Document]:
        if file.suffix in _TABLES:
            for index, record in enumerate(_read_table(file)):
                domain = _field(record, self.domain, file) if self.domain else file.parent.name
                text = _field(record, self.column, file)
                yield Document(f"{name}:{index}", "" if text is None else str(text), str(domain))
        else:
            parts = _cut_at_blank_lines(_read_plain(file))
            for index, text in enumerate(parts):
                yield Document(name if len(parts) == 1 else f"{name}:{index}", text, file.parent.name)


def _root(path: str) -> Path:
    """What names are relative to, so that a copy elsewhere has the same split and order: the folder, or of a glob what
    comes before its first wildcard."""
    whole = Path(path)
    if whole.is_dir():
        return whole
    return Path(*takewhile(lambda part: not has_magic(part), whole.parts[:-1]))


def _find_files(path: str) -> list[Path]:
    root = Path(path)
    if root.is_dir():
        files = [file for file in root.rglob("*") if file.is_file() and not file.name.startswith(".")]
    else:
        files = [Path(name) for name in glob(path, recursive=True) if Path(name).is_file()]
    if not files:
        raise RequestError(f"data.path={path}: expected a file, a folder or a glob of text, found no file")
    return sorted(files)


def _read_plain(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise JobError(
            f"{file}: expected UTF-8 text, found byte {error.object[error.start]:#04x} at {error.start}"
        ) from error


def _cut_at_blank_lines(text: str) -> list[str]:
    """The text itself, or pieces of about `_LONG_FILE` characters that end at blank lines."""
    if len(text) <= _LONG_FILE:
        return [text]
    pieces, start = [], 0
    for blank in re.finditer(r"\n\s*\n", text):
        if blank.end() - start >= _LONG_FILE:
            pieces.append(text[start : blank.end()])
            start = blank.end()
    return [*pieces, text[start:]] if start < len(text) else pieces


def _read_table(file: Path) -> Iterator[dict[str, Any]]:
    import datasets
    from datasets.exceptions import DatasetGenerationError

    try:
        yield from datasets.load_dataset(_TABLES[file.suffix], data_files=str(file), split="train", streaming=True)
    except StopIteration:  # no record at all, which the library looks for in the first one
        return
    except (DatasetGenerationError, ValueError, OSError) as error:
        raise denied(error, file) or JobError(
            f"{file}: expected {_TABLES[file.suffix]} records, found: {error}"
        ) from error


def _field(record: dict[str, Any], name: str, file: Path) -> Any:
    """A field of a record; `a.b` looks inside a nested one."""
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise RequestError(f"{file}: expected a field {name!r}, found {', '.join(record)}; set data.column=")
        value = value[part]
    return value
