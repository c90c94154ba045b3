"""Documents -> token ids -> packed rows, epoch after epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sae_cli.config.split import Split
from sae_cli.data.documents import Corpus, Document, document_id
from sae_cli.data.packing import PackingPolicy, TokenisedDocument, TokenRows, pack
from sae_cli.errors import JobError

_DOCUMENTS_A_CALL = 64


@runtime_checkable
class Tokeniser(Protocol):
    """What is needed of a Hugging Face tokenizer (so that this module need not import the library)."""

    def __call__(self, text: list[str], *, add_special_tokens: bool, verbose: bool) -> Any: ...


@dataclass(frozen=True)
class RowStream:
    """The rows of one split of a corpus, in an order that is a function of `seed`.

    Attributes:
        corpus: where the documents come from.
        tokeniser: turns texts into ids, without adding special tokens.
        policy: how documents become rows.
        split: the side of the split that is read.
        seed: the order of the documents.
    """

    corpus: Corpus
    tokeniser: Tokeniser
    policy: PackingPolicy
    split: Split
    seed: int

    def one_epoch(self, rows: int, epoch: int = 0) -> Iterator[TokenRows]:
        """Blocks of `rows` rows, each document once."""
        documents = self.corpus.documents(self.split, self.seed, epoch)
        return pack(tokenise(documents, self.tokeniser), self.policy, rows)

    def forever(self, rows: int) -> Iterator[TokenRows]:
        """Blocks of `rows` rows; after the last document the next epoch begins, in another order.

        Raises:
            JobError: an epoch does not fill a single block.
        """
        for epoch in count():
            blocks = 0
            for block in self.one_epoch(rows, epoch):
                # Blocks are whole, so that a block's values do not depend on where an epoch ends.
                if len(block.tokens) == rows:
                    yield block
                    blocks += 1
            if not blocks:
                raise JobError(
                    f"too little {self.split.value} text: expected at least {rows * self.policy.context:,} tokens "
                    f"({rows} rows of {self.policy.context}), found fewer; give more text, or lower model_rows= "
                    "or data.context="
                )


def tokenise(documents: Iterable[Document], tokeniser: Tokeniser) -> Iterator[TokenisedDocument]:
    """Each document's ids, special tokens left to the packing."""
    documents = iter(documents)
    while group := list(islice(documents, _DOCUMENTS_A_CALL)):
        encoded = tokeniser([document.text for document in group], add_special_tokens=False, verbose=False)
        for document, ids in zip(group, encoded["input_ids"], strict=True):
            yield TokenisedDocument(document_id(document.key), np.asarray(ids, dtype=np.int64))
