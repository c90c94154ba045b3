"""Documents -> token ids -> packed rows, epoch after epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sae_cli.config.split import Split
from sae_cli.errors import JobError
from sae_cli.terminal import console
from sae_cli.text.documents import Corpus, Document, document_id
from sae_cli.text.packing import PackingPolicy, TokenizedDocument, TokenRows, pack
from sae_cli.text.token_bytes import bytes_by_offsets, bytes_by_pieces

_DOCUMENTS_A_CALL = 64


@runtime_checkable
class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer (so that this module need not import the library)."""

    def __call__(
        self, text: list[str], *, add_special_tokens: bool, verbose: bool
    ) -> Mapping[str, list[list[int]]]: ...


@dataclass
class Progress:
    """How far an endless stream has been read: blocks in all, and in each epoch that came to its end."""

    blocks: int = 0
    ended: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class RowStream:
    """The rows of one split of a corpus, in an order that is a function of `seed`.

    Attributes:
        corpus: where the documents come from.
        tokenizer: turns texts into ids, without adding special tokens.
        policy: how documents become rows.
        split: the side of the split that is read.
        seed: the order of the documents.
        progress: how far `forever` has been read.
        counts_bytes: whether the rows say how many bytes of text each token stands for, which takes time.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    policy: PackingPolicy
    split: Split
    seed: int
    progress: Progress = field(default_factory=Progress, repr=False, compare=False)
    counts_bytes: bool = False

    def one_epoch(self, rows: int, epoch: int = 0) -> Iterator[TokenRows]:
        """Blocks of `rows` rows, each document once."""
        documents = self.corpus.documents(self.split, self.seed, epoch)
        return pack(tokenize(documents, self.tokenizer, self.counts_bytes), self.policy, rows)

    def forever(self, rows: int) -> Iterator[TokenRows]:
        """Blocks of `rows` rows; after the last document the next epoch begins, in another order, and that is said.

        Raises:
            JobError: an epoch does not fill a single block.
        """
        given = 0
        for epoch in count():
            blocks = 0
            for block in self.one_epoch(rows, epoch):
                # Blocks are whole, so that a block's values do not depend on where an epoch ends.
                if len(block.tokens) == rows:
                    given += 1
                    self.progress.blocks = max(self.progress.blocks, given)
                    yield block
                    blocks += 1
            if not blocks:
                raise self.too_little(rows)
            if epoch == len(self.progress.ended):
                self.progress.ended.append(blocks)
            if epoch == 0:
                console.log(
                    f"the {self.split.value} text ends after {blocks * rows:,} rows of {self.policy.context} tokens; "
                    "what is still needed is read from it again, in another order"
                )

    def epochs(self, rows: int, blocks: int) -> float:
        """How often the text is read for the first `blocks` blocks of `rows` rows: 1 where it does not run out."""
        ended = self.progress.ended
        if not ended and self.progress.blocks < blocks:  # an earlier attempt has read them
            deque(islice(self.forever(rows), blocks), maxlen=0)
        return 1 if not ended or blocks <= ended[0] else round(blocks / ended[0], 2)

    def too_little(self, rows: int = 1) -> JobError:
        """The one line for text that does not fill a block of `rows` rows: what there is in each split."""
        wanted = f"{rows} rows of {self.policy.context}" if rows > 1 else "a row"
        documents, tokens = self._size(self.split)
        other = next(split for split in Split if split is not self.split)
        lower = "lower model_rows= or data.context=" if rows > 1 else "lower data.context="
        return JobError(
            f"too little {self.split.value} text: expected at least {rows * self.policy.context:,} tokens ({wanted}), "
            f"found {tokens:,} in {documents:,} documents, and {self._size(other)[0]:,} {other.value} documents; give "
            f"more text, {lower}, or change data.held_out_fraction="
        )

    def _size(self, split: Split) -> tuple[int, int]:
        """How many documents that hold tokens a split has, and how many tokens these are."""
        documents = self.corpus.documents(split, self.seed)
        lengths = [len(each.tokens) for each in tokenize(documents, self.tokenizer)]
        return len(lengths), sum(lengths)


def tokenize(
    documents: Iterable[Document], tokenizer: Tokenizer, counts_bytes: bool = False
) -> Iterator[TokenizedDocument]:
    """Each document's ids, special tokens left to the packing; a document without any token is left out. Of one that
    was given as tokens the bytes are not known, which is 0.

    Args:
        documents: their texts.
        tokenizer: of a model.
        counts_bytes: whether to count the bytes of text that each token stands for.
    """
    documents = iter(documents)
    while group := list(islice(documents, _DOCUMENTS_A_CALL)):
        texts = [document.text for document in group]
        if counts_bytes:
            encoded, n_bytes = _with_bytes(texts, tokenizer)
        else:
            encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
            n_bytes = [None] * len(texts)
        for document, ids, lengths in zip(group, encoded, n_bytes, strict=True):
            if document.tokens is not None:
                yield _of_tokens(document, document.tokens, counts_bytes)
            elif len(ids):
                yield TokenizedDocument(document_id(document.key), np.asarray(ids, dtype=np.int64), lengths)


def _of_tokens(document: Document, tokens: Sequence[int], counts_bytes: bool) -> TokenizedDocument:
    """A document that was given as tokens, whose text is not known, nor are its bytes."""
    ids = np.asarray(tokens, dtype=np.int64)
    return TokenizedDocument(document_id(document.key), ids, np.zeros_like(ids) if counts_bytes else None)


def _with_bytes(texts: list[str], tokenizer: Any) -> tuple[list[list[int]], list[np.ndarray | None]]:
    """The ids of each text, and the bytes of it that each of them stands for."""
    fast = {"return_offsets_mapping": True} if tokenizer.is_fast else {}
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False, **fast)
    count, told = bytes_by_pieces, map(tokenizer.convert_ids_to_tokens, encoded["input_ids"])
    if fast:
        count, told = bytes_by_offsets, encoded["offset_mapping"]
    each = zip(texts, told, strict=True)
    return encoded["input_ids"], [count(text, of_tokens) if of_tokens else None for text, of_tokens in each]
