"""Which domain each token of a row belongs to: rows know the documents they are made of, documents their domain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sae_cli.config.split import Split
from sae_cli.data.documents import Corpus, Document, document_id


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
