"""Domains of text: which one each token of a row belongs to, and reading some of them only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sae_cli.config.split import Split
from sae_cli.errors import RequestError
from sae_cli.text.documents import Corpus, Document, document_id

_SHOWN = 20


class OnlyDomains:
    """The documents of some domains of a corpus.

    Args:
        corpus: of any domains.
        wanted: names of domains.
    """

    def __init__(self, corpus: Corpus, wanted: Sequence[str]) -> None:
        self._corpus, self._wanted = corpus, frozenset(wanted)

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        """Those of the wanted domains.

        Raises:
            RequestError: there is none in this split.
        """
        others: set[str] = set()
        found = False
        for document in self._corpus.documents(split, seed, epoch):
            if document.domain in self._wanted:
                found = True
                yield document
            else:
                others.add(document.domain)
        if not found:
            there = ", ".join(sorted(others - {""})[:_SHOWN]) or "none"
            raise RequestError(
                f"data.domains={sorted(self._wanted)}: no {split.value} document is of these; the text has the domains "
                f"{there}{', …' if len(others) > _SHOWN else ''}"
            )


class DomainsOf:
    """A corpus that remembers the domain of every document that it has given out.

    Attributes:
        names: of the domains met so far; a domain's number is its place here. Empty for documents without one.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._number_of_name: dict[str, int] = {}
        self._number_of_document: dict[int, int] = {}

    @property
    def names(self) -> list[str]:
        return list(self._number_of_name)

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        """Those of the corpus itself."""
        for document in self._corpus.documents(split, seed, epoch):
            number = self._number_of_name.setdefault(document.domain, len(self._number_of_name))
            self._number_of_document[document_id(document.key)] = number
            yield document

    def numbers(self, documents: np.ndarray) -> np.ndarray:
        """The domain of each of these document ids, which it has given out; int64 of the same shape."""
        ids, places = np.unique(documents, return_inverse=True)
        numbers = np.array([self._number_of_document[each] for each in ids.tolist()], dtype=np.int64)
        return numbers[places].reshape(documents.shape)
