"""The text that concepts are looked for in, as rows of tokens with labels, and the activations at chosen ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.config.data import RecordData
from sae_cli.config.probe import ProbingConfig
from sae_cli.config.split import Split
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.probing.samples import Side, Tokens, tuned_documents
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.terminal.progress import progress
from sae_cli.text.concepts.labelled_files import LabelledDocument, LabelledFile
from sae_cli.text.concepts.labellers import Labeller
from sae_cli.text.documents import Corpus, Document, document_id
from sae_cli.text.packing import PackingPolicy, TokenizedDocument, TokenRows, pack
from sae_cli.text.rows import tokenize
from sae_cli.text.spread import first, placed, regrouped, thinned

TESTED = 0.4
"""Share of the documents of a labelled file, by hash, that figures are measured on."""

_CHARACTERS = 8
"""Most characters that a token is expected to stand for."""


class LabelledRows(NamedTuple):
    """Rows of text with what is known of each position.

    Attributes:
        rows: tokens and documents.
        valid: positions that stand for a token of a document and are looked at, bool [B, T].
        previous: the token before it in its document, or -1 [B, T].
        labels: int8 [B, T, C].
        side: a `Side` of each row's documents [B, T].
    """

    rows: TokenRows
    valid: np.ndarray
    previous: np.ndarray
    labels: np.ndarray
    side: np.ndarray


@runtime_checkable
class LabelledText(Protocol):
    """A text with labels.

    Attributes:
        names: of the concepts.
        pooled: whether a document has one label.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def pooled(self) -> bool: ...

    def blocks(self) -> Iterator[LabelledRows]:
        """Its rows, those for fitting first."""
        ...


class _Held(NamedTuple):
    """A document that rows are being made of: its tokens, and their labels once these are asked for."""

    text: str
    tokens: np.ndarray
    n_bytes: np.ndarray


class _Remembered:
    """A corpus that remembers the documents that it has given out, until it is told to forget."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._texts: dict[int, str] = {}
        self._held: dict[int, _Held] = {}
        self._labels: dict[int, np.ndarray] = {}

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        for document in self._corpus.documents(split, seed, epoch):
            self._texts[document_id(document.key)] = document.text
            yield document

    def numbered(self, documents: Iterable[TokenizedDocument]) -> Iterator[TokenizedDocument]:
        """The documents, in the place of the bytes of each token its number in the document, from 1: packing carries it
        along, and a BOS and a separator have none."""
        for each in documents:
            assert each.n_bytes is not None, "they were counted"
            self._held[each.document] = _Held(self._texts.pop(each.document), each.tokens, each.n_bytes)
            yield each._replace(n_bytes=np.arange(1, len(each.tokens) + 1))

    def tokens_of(self, document: int) -> np.ndarray:
        return self._held[document].tokens

    def labels_of(self, document: int, label: Callable[[str, np.ndarray], np.ndarray]) -> np.ndarray:
        """The labels of a document's tokens, which are made once."""
        if document not in self._labels:
            held = self._held[document]
            self._labels[document] = label(held.text, held.n_bytes)
        return self._labels[document]

    def forget_before(self, document: int) -> None:
        for each in list(self._held):
            if each == document:
                return
            del self._held[each]
            self._labels.pop(each, None)


@dataclass(frozen=True)
class CorpusText:
    """A corpus, of which concepts are found by what is in it.

    Attributes:
        subject: model and text.
        labeller: the concepts.
        settings: how much is read.
    """

    subject: ModelSubject
    labeller: Labeller
    settings: ProbingConfig
    pooled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return self.labeller.names

    def blocks(self) -> Iterator[LabelledRows]:
        """Rows of the training text, then of the held-out one.

        Raises:
            RequestError: it is not known which characters a token stands for.
            JobError: there is not a row.
        """
        check_offsets(self.subject)
        for split, tokens in ((Split.train, self.settings.tokens), (Split.held_out, self.settings.test_tokens)):
            stream = build.row_stream(self.subject.data, self.subject.model, split)
            counted = stream.policy.context - FIRST_POSITION
            found = False
            with progress(tokens, f"labels, {split.value}") as advance:
                for block in self._rows(split, -(-tokens // counted)):
                    found = True
                    yield block
                    advance(block.valid.size - len(block.valid))
            if not found:
                raise stream.too_little()

    def _rows(self, split: Split, wanted: int) -> Iterator[LabelledRows]:
        stream = build.row_stream(self.subject.data, self.subject.model, split)
        per_document = self.settings.rows_per_document
        for turn in count():
            corpus = _Remembered(stream.corpus)
            documents = tokenize(corpus.documents(split, stream.seed), stream.tokenizer, counts_bytes=True)
            blocks = placed(pack(corpus.numbered(documents), stream.policy, self.subject.model_rows))
            some = blocks if per_document is None else thinned(blocks, per_document, turn)
            read = 0
            for rows in regrouped((each.rows for each in first(some, wanted)), self.subject.model_rows):
                yield self._labelled(rows, corpus, split)
                read += len(rows.tokens)
                corpus.forget_before(int(rows.document[-1, 0]))
            wanted -= read
            if wanted <= 0 or not read or per_document is None:
                return

    def _labelled(self, rows: TokenRows, corpus: _Remembered, split: Split) -> LabelledRows:
        assert rows.n_bytes is not None, "numbers of tokens stand there"
        number = rows.n_bytes - 1
        valid = number >= 0
        valid[:, :FIRST_POSITION] = False
        labels = np.full((*rows.tokens.shape, len(self.names)), -1, dtype=np.int8)
        previous = np.full(rows.tokens.shape, -1, dtype=np.int64)
        for document in np.unique(rows.document[valid]).tolist():
            own = valid & (rows.document == document)
            labels[own] = corpus.labels_of(document, self.labeller.labels)[number[own]]
            before = np.append(-1, corpus.tokens_of(document))
            previous[own] = before[number[own]]
        if split is Split.held_out:
            side = np.full(rows.tokens.shape, Side.test, dtype=np.int8)
        else:
            side = np.where(tuned_documents(rows.document, self.settings.seed), Side.tune, Side.fit).astype(np.int8)
        return LabelledRows(rows._replace(n_bytes=None), valid, previous, labels, side)


@dataclass(frozen=True)
class FileText:
    """A labelled file; every document begins a row of its own, and is read alone.

    Attributes:
        subject: model; its own text is not looked at.
        file: the documents. One with a single label is cut where a row ends.
        settings: how much is read.
    """

    subject: ModelSubject
    file: LabelledFile
    settings: ProbingConfig

    @property
    def names(self) -> tuple[str, ...]:
        return self.file.names

    @property
    def pooled(self) -> bool:
        return self.file.pooled

    def blocks(self) -> Iterator[LabelledRows]:
        """Rows of the documents that are chosen, in the order of the file; see `CorpusText`."""
        check_offsets(self.subject)
        policy = build.packing_policy(self.subject.data, self.subject.model)
        held: list[tuple[np.ndarray, np.ndarray, int]] = []
        chosen = self._chosen()
        with progress(int(chosen.sum()), "labels", unit="documents") as advance:
            for number, each in enumerate(self.file.documents()):
                if not chosen[number]:
                    continue
                document = Document(f"{each.number}", each.text, "")
                for found in tokenize([document], self.subject.model.tokenizer, counts_bytes=True):
                    held += self._pieces(number, each, found, policy)
                advance(1)
                while len(held) >= self.subject.model_rows:
                    yield self._block(held[: self.subject.model_rows], policy)
                    held = held[self.subject.model_rows :]
        if held:
            yield self._block(held, policy)

    @cached_property
    def sides(self) -> np.ndarray:
        """The `Side` of each document, by a hash of its group."""
        mixed = tuned_documents(self.file.groups, self.settings.seed)
        halves = _hashed(self.file.groups, self.settings.seed + 1) < TESTED
        return np.where(halves, Side.test, np.where(mixed, Side.tune, Side.fit)).astype(np.int8)

    def _chosen(self) -> np.ndarray:
        """Which documents are read, by hash: of each class and side as many as are wanted, or so much text."""
        order = np.argsort(_hashed(np.arange(len(self.file.groups)), self.settings.seed + 2), kind="stable")
        sides, chosen = self.sides, np.zeros(len(order), dtype=bool)
        most = {Side.fit: self.settings.fit, Side.tune: self.settings.tune, Side.test: self.settings.test}
        for side, wanted in most.items():
            own = order[sides[order] == side]
            if not self.pooled:
                budget = self.settings.test_tokens if side is Side.test else self.settings.tokens
                chosen[own[self.file.sizes[own].cumsum() <= _CHARACTERS * budget]] = True
                continue
            for number in np.unique(self.file.classes):
                chosen[own[self.file.classes[own] == number][:wanted]] = True
        return chosen

    def _pieces(
        self, number: int, each: LabelledDocument, found: TokenizedDocument, policy: PackingPolicy
    ) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """The document in rows: tokens, labels, and its number."""
        assert found.n_bytes is not None, "they were counted"
        body = policy.context - (policy.bos_id is not None)
        if self.pooled:
            labels = np.zeros((len(found.tokens), len(self.names)), dtype=np.int8)
            if (of_class := int(self.file.classes[number])) >= 0:
                labels[:, of_class] = 1
            return [(found.tokens[:body], labels[:body], number)]
        labels = self.file.labels(each, found.n_bytes)
        return [(found.tokens[i : i + body], labels[i : i + body], number) for i in range(0, len(labels), body)]

    def _block(self, pieces: list[tuple[np.ndarray, np.ndarray, int]], policy: PackingPolicy) -> LabelledRows:
        begin = policy.bos_id is not None
        longest = max(FIRST_POSITION + 1, begin + max(len(tokens) for tokens, _, _ in pieces))
        shape = (len(pieces), longest)
        tokens = np.full(shape, policy.bos_id or 0, dtype=np.int64)
        valid, previous = np.zeros(shape, dtype=bool), np.full(shape, -1, dtype=np.int64)
        labels = np.full((*shape, len(self.names)), -1, dtype=np.int8)
        document, side = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int8)
        for row, (ids, own, number) in enumerate(pieces):
            where = slice(begin, begin + len(ids))
            tokens[row, where], labels[row, where], valid[row, where] = ids, own, True
            previous[row, begin + 1 : begin + len(ids)] = ids[:-1]
            document[row], side[row] = self.file.groups[number], self.sides[number]
        valid[:, :FIRST_POSITION] = False
        return LabelledRows(TokenRows(tokens, document), valid, previous, labels, side)


def _hashed(ids: np.ndarray, seed: int) -> np.ndarray:
    """Numbers from 0 to 1 that depend on these and the seed."""
    rng = np.random.default_rng(seed)
    unique, place = np.unique(ids, return_inverse=True)
    return rng.random(len(unique))[place]


def check_offsets(subject: ModelSubject) -> None:
    """Refuse what has no characters, or a tokenizer that does not say which a token stands for.

    Raises:
        RequestError: it is so.
    """
    if not subject.model.tokenizer.is_fast:
        raise RequestError(
            "labels=: expected a tokenizer that says which characters a token stands for, found one in plain Python; "
            "give a model with a tokenizer.json"
        )
    if isinstance(subject.data, RecordData) and subject.data.tokens:
        raise RequestError("labels=: expected text, found data.tokens=true; give the text itself")


class Read(NamedTuple):
    """All rows that were read, and their tokens one after the other, row by row.

    Attributes:
        blocks: the rows.
        tokens: of the positions that are looked at.
    """

    blocks: list[LabelledRows]
    tokens: Tokens

    @classmethod
    def of(cls, text: LabelledText) -> Read:
        """Reads a text.

        Raises:
            JobError: there is nothing to look at.
        """
        blocks = list(text.blocks())
        if not sum(int(each.valid.sum()) for each in blocks):
            raise JobError("labels=: expected tokens with labels, found none; give more text")
        parts = [(each.rows.tokens, each.previous, each.rows.document, each.side, each.labels) for each in blocks]
        masks = [each.valid for each in blocks]
        columns = [np.concatenate([part[i][mask] for part, mask in zip(parts, masks, strict=True)]) for i in range(5)]
        return cls(blocks, Tokens(*columns))
