"""A data set of the `datasets` library in a local folder or file.

The library says which files belong to a split and what is in them. It takes names for patterns and reads hidden files
and links in circles, so it is shown a folder of links to the files that `find_files` has found. Their records are read
here, file by file; by the library, where their kind or the data set's card asks for more than that.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

from sae_cli.artifacts.hub_errors import refusal_of
from sae_cli.errors import JobError, RequestError, SaeError, is_out_of_memory
from sae_cli.escaping import brief
from sae_cli.text.local_files import LocalFiles, PassedOver, find_files, say_passed_over, unreadable
from sae_cli.text.records import READERS, Reader, Record, arrow, json_values, parquet, separated_values, text_lines
from sae_cli.text.streams import COMPRESSED, Source, sources, what_is_no_text

if TYPE_CHECKING:
    from datasets import IterableDataset

_TEXT = "text"
_KINDS: dict[str, tuple[str, Reader]] = {
    "json": (".jsonl .jsonlines .ndjson .json", json_values),
    "csv": (".csv .tsv", separated_values(",")),
    "parquet": (".parquet .pq", parquet),
    "arrow": (".arrow", arrow),
    _TEXT: (".txt", text_lines),
}
"""What is read here, by the library's name for it: its endings, and its reader where a file's ending says nothing."""
_LIBRARY_ENDINGS = {".jsonlines": ".jsonl", ".ndjson": ".jsonl", ".pq": ".parquet"}
_ABOUT_FILES = {"name", "version", "data_dir", "data_files", "description", "sep"}
"""What of the library's configuration says which files there are."""
_ABOUT_DATA_SETS = {"README.md", "LICENSE", "LICENSE.txt", "LICENSE.md"}
_SAVED, _SAVED_SPLITS = "state.json", "dataset_dict.json"
"""What `save_to_disk` leaves beside the files of a data set, and above its splits."""
_DESCRIBED = "dataset_info.json"
_PATTERNS = re.compile(r"[\[\]*?{}!:\\\x00-\x1f]")


class FileRecords(NamedTuple):
    """The records of one file: its name in the keys of documents, what messages call it, and what is in it."""

    name: str
    where: str
    records: Iterator[Record]


class LocalDataSet:
    """The files of one split.

    Args:
        path: a folder or a file.
        subset: the data set's configuration name; empty for the default one.
        split: the data set's split; of a single file `train`.

    Raises:
        RequestError: there is no such data set, subset or split.
        JobError: a folder cannot be read.

    Attributes:
        files: by their names in the folder.
        kind: what the library reads them as.
        version: the same, as it stands in the records of texts.
        keyed: whether the keys of documents are those of the same files as local text.
    """

    def __init__(self, path: str, subset: str, split: str) -> None:
        self._path, self._where, self._subset, self._split = path, f"data.path={path}", subset, split
        found = find_files(path)
        found.say(path)
        self._shown, self._single = _without_caches(path, found), found.single
        with _opened(self._where, self._shown, subset, found.single) as (builder, of_splits):
            self._config, self.kind = builder.config, str(builder.name)
        if split not in of_splits:
            there = " or ".join(sorted(of_splits))
            raise RequestError(f"{self._where}: expected data.split={there}, found data.split={split}")
        self.version = f"{self.kind} records by file"
        self._found = found.only(of_splits[split])
        self.files = self._found.files
        self._by_library = self.kind not in _KINDS or _asks_for_more(self._config)
        self.keyed = not self._by_library and self.kind != _TEXT
        used = {name for names in of_splits.values() for name in names} | _ABOUT_DATA_SETS
        if unused := sorted(name for name in self._shown if name not in used and Path(name).name != _DESCRIBED):
            say_passed_over(path, f"what is no file of this {self.kind} data set", unused)

    def groups(self) -> list[str]:
        """What is read at once, by its name: each file, or all of them where the library reads them."""
        return [self._split] if self._by_library else list(self.files)

    def records(self, group: str, columns: Sequence[str]) -> Iterator[FileRecords]:
        """What one of the groups holds; an archive may hold several files.

        Raises:
            RequestError: it holds nothing that can be read.
            JobError: it cannot be read.
        """
        if self._by_library:
            yield FileRecords(group, self._where, self._read_by_library(columns))
            return
        passed_over = PassedOver(self._path)
        for source in sources(group, self.files[group], self._found.all_names, self._found.names_of(group)):
            if reason := self._unlike(source):
                if self._single and source.key == group:
                    raise RequestError(f"{self._where}: expected text, found {reason}")
                passed_over.add(source.key, reason)
            else:
                yield FileRecords(source.key, source.where, self._reader(source)(source, columns))
        passed_over.say()

    def _unlike(self, source: Source) -> str:
        """Why a file is not read, if it is not."""
        endings = _KINDS[self.kind][0].split()
        if source.unread:
            return source.unread
        if source.key not in self.files and source.ending not in endings:
            return f"what is no file of this {self.kind} data set"
        kind = what_is_no_text(source) if self.kind == _TEXT else ""
        return f"{kind}, no text" if kind else ""

    def _reader(self, source: Source) -> Reader:
        endings, by_default = _KINDS[self.kind]
        separator = getattr(self._config, "sep", None)
        if separator not in (None, ",", "\t"):
            return separated_values(separator)
        return READERS.get(source.ending, by_default) if source.ending in endings.split() else by_default

    def _read_by_library(self, columns: Sequence[str]) -> Iterator[Record]:
        with (
            _opened(self._where, self._shown, self._subset, self._single) as (builder, _),
            library_errors(self._where),
        ):
            stream: Any = builder.as_streaming_dataset(self._split)
            for number, values in enumerate(only(stream, columns, self._where), 1):
                yield Record(f"{self._where}, record {number:,}", values)


def only(stream: IterableDataset, columns: Iterable[str], where: str) -> IterableDataset:
    """A stream of the library with these of its columns, as far as it knows them before it reads.

    Raises:
        RequestError: it lacks one.
    """
    there = stream.column_names
    if there is None:
        return stream
    wanted = {name: name if name in there else name.split(".", 1)[0] for name in columns}
    for name, column in wanted.items():
        if column not in there:
            raise RequestError(
                f"{where}: expected a column {name!r}, found {', '.join(there)}; set data.column= or data.domain="
            )
    return stream.select_columns(sorted(set(wanted.values())))


@contextmanager
def opening(where: str, shown: str = "") -> Iterator[None]:
    """Within it, what keeps the library from opening a data set is a `RequestError`; a damaged archive, a `JobError`.

    Args:
        where: what is opened, for messages.
        shown: the folder that the library sees in its place.
    """
    from datasets.exceptions import DatasetNotFoundError

    try:
        yield
    except (DatasetNotFoundError, FileNotFoundError, ConnectionError) as error:
        if (refusal := refusal_of(error)) is not None:
            raise refusal.about(where) from error
        raise RequestError(
            f"{where}: expected a data set on the hub or a local folder, found none: {_said(error, shown)}"
        ) from error
    except BadZipFile as error:
        raise JobError(f"{where}: expected a zip archive, found: {_said(error, shown)}") from error
    except StopIteration as error:  # which the library meets where it looks at the first record
        raise RequestError(f"{where}: expected records, found files without any") from error
    except Exception as error:  # of the library and of all that it opens files with: an open set
        if isinstance(error, SaeError) or is_out_of_memory(error):
            raise
        if (refusal := refusal_of(error)) is not None:
            raise refusal.about(where) from error
        raise RequestError(f"{where}: {_said(error, shown)}") from error


@contextmanager
def library_errors(where: str) -> Iterator[None]:
    """Within it, whatever the library says of records that it cannot read is a `JobError`."""
    try:
        yield
    except Exception as error:  # of the library and of all that it reads files with: an open set
        if isinstance(error, SaeError) or is_out_of_memory(error):
            raise
        if (refusal := refusal_of(error)) is not None:
            raise refusal.about(where) from error
        raise JobError(f"{where}: expected records that can be read, found: {_said(error)}") from error


@contextmanager
def _opened(where: str, files: Mapping[str, Path], subset: str, single: bool) -> Iterator[tuple[Any, Any]]:
    """The library's builder of a data set, which can be read within, and the names of the files of each split."""
    import datasets

    with tempfile.TemporaryDirectory(prefix="sae-") as place:
        folder = os.path.realpath(place) + "/shown-files"
        names = _linked(files, folder, single)
        with opening(where, folder):
            builder: Any = datasets.load_dataset_builder(folder, subset or None, cache_dir=f"{place}/cache")
            of_splits = {
                str(split): [names[Path(each).relative_to(folder).as_posix()] for each in found]
                for split, found in (builder.config.data_files or {}).items()
            }
        yield builder, of_splits


def _linked(files: Mapping[str, Path], folder: str, single: bool) -> dict[str, str]:
    """Make a folder of links to the files; gives the files' names by those of the links."""
    names: dict[str, str] = {}
    os.mkdir(folder)
    for name in files:
        link = _library_name(_plain_name(name) if single else name)
        while link in names:
            link = f"{PurePosixPath(link).parent}/x-{PurePosixPath(link).name}".removeprefix("./")
        names[link] = name
        target = Path(folder, link)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(files[name].absolute())
    return names


def _library_name(name: str) -> str:
    """A name that the library takes for what it is: without patterns, its endings as it knows them."""
    parts = _PATTERNS.sub("-", name.encode("utf-8", "replace").decode()).split("/")
    stem, ending, packed = _endings(parts[-1])
    return "/".join([*parts[:-1], stem + _LIBRARY_ENDINGS.get(ending, ending) + packed])


def _plain_name(name: str) -> str:
    """A name that says what a file holds and nothing of a split."""
    _, ending, packed = _endings(name)
    return f"data{ending}{packed}"


def _endings(name: str) -> tuple[str, str, str]:
    """A file's name in three: its stem, its ending, and what says how it is compressed; the last two in small letters
    where they are known, so that a README.md is still one."""
    whole = PurePosixPath(name)
    packed = whole.suffix.lower() if whole.suffix.lower() in COMPRESSED else ""
    inner = PurePosixPath(whole.stem) if packed else whole
    known = inner.suffix.lower() in {*READERS, ".txt"}
    return inner.stem, inner.suffix.lower() if known else inner.suffix, packed


def _without_caches(path: str, found: LocalFiles) -> dict[str, Path]:
    """The files as the library should see them. Of a folder that `save_to_disk` has left these are the ones that its
    state names: what else is there are results that the library remembers, which hold the same documents again."""
    files = dict(found.files)
    caches: list[str] = []
    for name in [each for each in files if PurePosixPath(each).name == _SAVED]:
        folder = name.removesuffix(_SAVED)
        named = {f"{folder}{each}" for each in _files_of_state(files.pop(name))}
        beside = [each for each in files if each.startswith(folder) and "/" not in each.removeprefix(folder)]
        caches += [each for each in beside if each.endswith(".arrow") and each not in named]
        if missing := sorted(named - files.keys()):
            raise JobError(f"{path.rstrip('/')}/{missing[0]}: expected a file of a saved data set, found none")
        files.pop(f"{folder}{_DESCRIBED}", None)
    files.pop(_SAVED_SPLITS, None)
    for each in caches:
        del files[each]
    if caches:
        say_passed_over(path, "what the library remembers of a data set", sorted(caches))
    return files


def _files_of_state(file: Path) -> list[str]:
    with unreadable(str(file)):
        content = file.read_bytes()
    try:
        return [str(each["filename"]) for each in json.loads(content)["_data_files"]]
    except (ValueError, KeyError, TypeError):
        return []  # not of the library


def _asks_for_more(config: Any) -> bool:
    """Whether a data set's card changes how its files are read."""
    default = type(config)()
    return any(
        getattr(config, each.name) != getattr(default, each.name)
        for each in fields(config)
        if each.name not in _ABOUT_FILES
    )


def _said(error: BaseException, shown: str = "") -> str:
    """What the library says, on one line, without the folder that it was shown and the advice to call it otherwise."""
    text = " ".join(str(error).split("Example of usage")[0].split())
    return brief(text.replace(f"{shown}/", "").replace(shown, "it") if shown else text) or type(error).__name__
