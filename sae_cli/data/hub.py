"""A Hugging Face data set, streamed from the hub or a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sae_cli.config.split import Split
from sae_cli.data.documents import Document, is_held_out
from sae_cli.errors import RequestError


class HubCorpus:
    """Any data set that `datasets.load_dataset` reads, in streaming mode.

    A document's key is the data set's name and the record's index in it, so the split does not depend
    on the order of reading. The order comes from the library's shuffle buffer (and shuffled shards).

    Args: as the fields of `sae_cli.config.data.HfData`.
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
    ) -> None:
        self.path, self.subset, self.split = path, subset, split
        self.column, self.domain = column, domain
        self.revision, self.shuffle_documents = revision, shuffle_documents
        self.held_out_fraction = held_out_fraction

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        stream = self._open().map(_with_index, with_indices=True)
        stream = stream.shuffle(seed=seed, buffer_size=self.shuffle_documents)
        stream.set_epoch(epoch)
        for record in stream:
            key = f"{self.path}:{self.subset}:{self.split}:{record[_INDEX]}"
            if is_held_out(key, self.held_out_fraction) == (split is Split.held_out):
                text = self._field(record, self.column)
                if text:
                    yield Document(key, str(text), str(self._field(record, self.domain)) if self.domain else "")

    def _open(self) -> Any:
        import datasets
        from datasets.exceptions import DatasetNotFoundError

        try:
            return datasets.load_dataset(
                self.path, self.subset or None, split=self.split, streaming=True, revision=self.revision
            )
        except (DatasetNotFoundError, FileNotFoundError, ConnectionError) as error:
            raise RequestError(
                f"data.path={self.path}: expected a data set on the hub or a local folder, found none: "
                f"{_first_line(error)}"
            ) from error
        except StopIteration as error:  # which the library meets where it looks at the first record
            raise RequestError(f"data.path={self.path}: expected records, found files without any") from error
        except ValueError as error:  # an unknown subset or split: the message lists those there are
            raise RequestError(f"data.path={self.path}: {_first_line(error)}") from error

    def _field(self, record: dict[str, Any], name: str) -> Any:
        """A column of a record; `a.b` looks inside a nested one."""
        value: Any = record
        for part in name.split("."):
            if not isinstance(value, dict) or part not in value:
                columns = ", ".join(column for column in record if column != _INDEX)
                raise RequestError(f"{self.path}: expected a column {name!r}, found {columns}; set data.column=")
            value = value[part]
        return value


_INDEX = "__index__"


def _with_index(record: dict[str, Any], index: int) -> dict[str, Any]:
    return record | {_INDEX: index}


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
