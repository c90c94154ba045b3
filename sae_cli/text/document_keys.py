"""The keys of the documents that a text is made of, by the ids that stand in rows of tokens."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from sae_cli.config.split import Split
from sae_cli.text.documents import Corpus, Document, document_id


class DocumentKeys:
    """A corpus that remembers the key of every document that it has given out, until it is told to forget.

    Attributes:
        keys: by the document's id, in the order of the text.
    """

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self.keys: dict[int, str] = {}

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        """Those of the corpus itself."""
        for document in self._corpus.documents(split, seed, epoch):
            self.keys[document_id(document.key)] = document.key
            yield document

    def keys_of(self, documents: Collection[int], split: Split, seed: int) -> dict[int, str]:
        """The keys of some documents, in the order of the text, which is read again where it was not read so far."""
        if not self.keys.keys() >= set(documents):
            missing = set(documents)
            for document in self.documents(split, seed):
                missing.discard(document_id(document.key))
                if not missing:
                    break
        return {each: key for each, key in self.keys.items() if each in documents}

    def forget_before(self, document: int, but: Collection[int]) -> None:
        """Forget the documents that were given out before this one, but for some."""
        for each in list(self.keys):
            if each == document:
                return
            if each not in but:
                del self.keys[each]
