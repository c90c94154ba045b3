"""A Hugging Face data set, streamed from the hub or read from a local folder or file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from random import Random
from typing import Any

from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.text.content import Content, RecordFormat, plain_text
from sae_cli.text.documents import Document, is_held_out, seeded_order
from sae_cli.text.local_data_set import LocalDataSet, library_errors, only, opening
from sae_cli.text.local_files import is_local
from sae_cli.text.records import Record

_HUB = "hf://datasets/"
"""May stand before the name of a data set on the hub."""


class HubCorpus:
    """Any data set that `datasets.load_dataset` reads, one that `save_to_disk` has left, or a single file.

    The key of a document of a local data set is made as in `TextCorpus`, of the file's name in the folder and the
    record's number in the file. On the hub it is made of the data set's name, the file's number in it and the record's
    in the file; this last one alone says which side of the split it is on, as it always has. The order is one of the
    files, and that of a shuffle buffer; keys do not depend on it.

    Args: as the fields of `sae_cli.config.data.HfData`, and `content`: what the column holds.
    """

    def __init__(
        self,
        path: str,
        subset: str,
        split: str,
        column: str,
        domain: str,
        revision: str | None,
        shuffle_documents: int,
        held_out_fraction: float,
        content: Content = plain_text,
    ) -> None:
        self.path, self.subset, self.split = path, subset, split
        self.revision, self.shuffle_documents = revision, shuffle_documents
        self.held_out_fraction = held_out_fraction
        self._format = RecordFormat(column, domain, content)

    @cached_property
    def local(self) -> LocalDataSet | None:
        """The data set where it is local; None for one on the hub.

        Raises:
            RequestError: there is no such data set, subset or split.
            JobError: a folder cannot be read.
        """
        return LocalDataSet(self.path, self.subset, self.split) if is_local(self.path) else None

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        """Those of the data set; see `Corpus`.

        Raises:
            RequestError: there is no such data set, subset, split or column, or the column holds no text.
            JobError: it cannot be read.
        """
        local = self.local
        documents = self._of_files(local, split, seed, epoch) if local else self._of_hub(split, seed, epoch)
        return _shuffled(documents, self.shuffle_documents, Random(f"{seed} {epoch}"))

    def _of_files(self, local: LocalDataSet, split: Split, seed: int, epoch: int) -> Iterator[Document]:
        read = False
        for group in seeded_order(local.groups(), seed, epoch):
            for file in local.records(group, self._format.columns):
                read = True
                records = enumerate(file.records)
                yield from self._format.documents(file.name, file.where, records, "", self._is_of(split))
        if not read:
            raise RequestError(f"data.path={self.path}: expected text, found none in {len(local.files):,} files")

    def _of_hub(self, split: Split, seed: int, epoch: int) -> Iterator[Document]:
        where, name = f"data.path={self.path}", f"{self.path.removeprefix(_HUB)}:{self.subset}:{self.split}"
        stream = only(self._open(), self._format.columns, where)
        in_file = self._is_of(split)

        def wanted(key: str) -> bool:
            return in_file(f"{name}:{key.rpartition(':')[2]}")

        files = stream.num_shards
        for number in seeded_order(map(str, range(files)), seed, epoch):
            file = stream.shard(num_shards=files, index=int(number))
            records = _numbered(f"{where}, file {int(number) + 1:,} of {files:,}", file)
            yield from self._format.documents(f"{name}:{number}", where, records, "", wanted)

    def _is_of(self, split: Split) -> Callable[[str], bool]:
        return lambda key: is_held_out(key, self.held_out_fraction) == (split is Split.held_out)

    def _open(self) -> Any:
        import datasets

        with opening(f"data.path={self.path}"):
            return datasets.load_dataset(
                self.path, self.subset or None, split=self.split, streaming=True, revision=self.revision
            )


def _numbered(where: str, stream: Iterable[dict[str, Any]]) -> Iterator[tuple[int, Record]]:
    with library_errors(where):
        for index, values in enumerate(stream):
            yield index, Record(f"{where}, record {index + 1:,}", values)


def _shuffled(documents: Iterator[Document], held: int, random: Random) -> Iterator[Document]:
    """All of them, each taken at random from so many that are held."""
    buffer: list[Document] = []
    for document in documents:
        if len(buffer) < held:
            buffer.append(document)
            continue
        place = random.randrange(held)
        yield buffer[place]
        buffer[place] = document
    random.shuffle(buffer)
    yield from buffer
