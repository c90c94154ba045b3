"""Classifying new text by a probe that was kept, some documents at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.config.probe import Pool
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.documents import Document as Facts
from sae_cli.evaluation.probing.capture import FEATURES_AT_ONCE
from sae_cli.evaluation.probing.saved import SavedProbe
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.text.concepts.labelled_files import LabelledDocument
from sae_cli.text.concepts.token_labels import TokenPlaces
from sae_cli.text.documents import Document
from sae_cli.text.packing import PackingPolicy, TokenizedDocument, TokenRows
from sae_cli.text.rows import tokenize
from sae_cli.text.token_bytes import byte_positions


class Told(NamedTuple):
    """What is said of one document.

    Attributes:
        line: for people and programs that read JSON.
        tokens: how many were looked at.
    """

    line: Facts
    tokens: int


@dataclass
class Counts:
    """What was said of tokens, or of documents, so far: how many were taken for a concept, and of those with labels how
    many rightly."""

    taken: int = 0
    total: int = 0
    tp: int = 0
    fp: int = 0
    positives: int = 0
    negatives: int = 0

    def add(self, taken: np.ndarray, labels: np.ndarray | None) -> None:
        """Some more, with labels of 1, 0 or -1 where these are known."""
        self.taken += int(taken.sum())
        self.total += len(taken)
        if labels is not None:
            self.tp += int((taken & (labels == 1)).sum())
            self.fp += int((taken & (labels == 0)).sum())
            self.positives += int((labels == 1).sum())
            self.negatives += int((labels == 0).sum())

    def figures(self) -> dict[str, float | None]:
        """Shares; None of what there is none of."""
        tn = self.negatives - self.fp
        return {
            "share": _share(self.taken, self.total),
            "precision": _share(self.tp, self.tp + self.fp),
            "recall": _share(self.tp, self.positives),
            "f1": _share(2 * self.tp, self.tp + self.fp + self.positives),
            "accuracy": _share(self.tp + tn, self.positives + self.negatives),
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


@dataclass(frozen=True)
class Classifier:
    """Tells of documents, or of their tokens, which concepts they are of.

    Attributes:
        subject: model and place.
        dictionary: of that place.
        probes: one a concept.
        pool: what stands for a document's tokens, where documents are told; None where tokens are.
        counts: what was said so far, by concept.
    """

    subject: ModelSubject
    dictionary: Dictionary
    probes: Sequence[SavedProbe]
    pool: Pool | None
    counts: dict[str, Counts] = field(default_factory=dict)

    @torch.no_grad()
    def tell(self, documents: Sequence[LabelledDocument]) -> Iterator[Told]:
        """What each of some documents is; held in memory are these."""
        held = [self._tokenized(each) for each in documents]
        pieces = [piece for number, each in enumerate(held) if each for piece in self._pieces(number, each)]
        features, at = self._features(pieces) if pieces else (np.zeros((0, 0)), np.zeros((0, 2), dtype=np.int64))
        columns, place = np.unique(np.concatenate([each.features for each in self.probes])), {}
        place.update(zip(columns.tolist(), range(len(columns)), strict=True))
        for number, (document, tokens) in enumerate(zip(documents, held, strict=True)):
            own = features[at[:, 0] == number]
            looked = at[at[:, 0] == number, 1]
            yield self._told(document, tokens, own, looked, place)

    def _tokenized(self, document: LabelledDocument) -> TokenizedDocument | None:
        tokenizer = self.subject.model.tokenizer
        return next(iter(tokenize([Document("", document.text, "")], tokenizer, counts_bytes=True)), None)

    def _pieces(self, number: int, each: TokenizedDocument) -> Iterator[tuple[int, int, np.ndarray]]:
        """A document in rows: its number, the number of the first token, the tokens; one row where documents are told,
        as when the probe was fitted."""
        body = self._policy.context - (self._policy.bos_id is not None)
        starts = range(0, len(each.tokens), body) if self.pool is None else [0]
        yield from ((number, start, each.tokens[start : start + body]) for start in starts)

    @property
    def _policy(self) -> PackingPolicy:
        return build.packing_policy(self.subject.data, self.subject.model)

    def _features(self, pieces: list[tuple[int, int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Of every token that is looked at the features of the probes [n, k], its document and its number there."""
        policy, found, at = self._policy, [], []
        begin = int(policy.bos_id is not None)
        columns = torch.from_numpy(np.unique(np.concatenate([each.features for each in self.probes])))
        at_once = max(1, FEATURES_AT_ONCE // self.dictionary.n_features)
        for some in (pieces[i : i + self.subject.model_rows] for i in range(0, len(pieces), self.subject.model_rows)):
            longest = max(FIRST_POSITION + 1, begin + max(len(tokens) for _, _, tokens in some))
            tokens = np.full((len(some), longest), policy.bos_id or 0, dtype=np.int64)
            known = np.full((len(some), longest, 2), -1, dtype=np.int64)
            for row, (number, start, ids) in enumerate(some):
                tokens[row, begin : begin + len(ids)] = ids
                known[row, begin : begin + len(ids), 0] = number
                known[row, begin : begin + len(ids), 1] = start + np.arange(len(ids))
            known = known[:, FIRST_POSITION:].reshape(-1, 2)
            valid = known[:, 0] >= 0
            rows = TokenRows(tokens, np.zeros_like(tokens))
            for _, block in self.subject.activations_of([rows], Split.held_out):
                x, _ = self.subject.columns.pair(block.activations[torch.from_numpy(valid)])
                device = self.dictionary.W_dec.device
                parts = [self.dictionary.encode(part)[:, columns.to(device)] for part in x.to(device).split(at_once)]
                found.append(torch.cat(parts).double().cpu().numpy())
            at.append(known[valid])
        return np.concatenate(found), np.concatenate(at)

    def _told(
        self,
        document: LabelledDocument,
        tokens: TokenizedDocument | None,
        features: np.ndarray,
        looked: np.ndarray,
        place: dict[int, int],
    ) -> Told:
        concepts: dict[str, Facts] = {}
        for probe in self.probes:
            counts = self.counts.setdefault(probe.concept, Counts())
            if not len(looked):
                concepts[probe.concept] = {"score": None, "taken": False}
                continue
            own = features[:, [place[each] for each in probe.features.tolist()]]
            if self.pool is not None:
                own = _pooled(own, self.pool)
            logits = own @ probe.weights + probe.bias
            scores = 0.5 * (1 + np.tanh(logits / 2))
            counts.add(logits > 0, self._labels(document, tokens, looked, probe.concept))
            concepts[probe.concept] = {"score": round(float(scores.max()), 6), "taken": bool((logits > 0).any())}
            if self.pool is None and tokens is not None:
                concepts[probe.concept]["spans"] = _spans(document.text, tokens, looked[logits > 0])
        line: Facts = {"line": document.number, "tokens": len(looked), "concepts": concepts}
        return Told(line, len(looked))

    def _labels(
        self, document: LabelledDocument, tokens: TokenizedDocument | None, looked: np.ndarray, concept: str
    ) -> np.ndarray | None:
        """Those of the document itself, or of its tokens, where they are given."""
        if self.pool is not None:
            label = document.label
            return None if label is None else np.array([int(label in (1, concept))])
        if not document.spans or tokens is None or tokens.n_bytes is None:
            return None
        places = TokenPlaces(document.text, tokens.n_bytes)
        return places.labels(document.spans.get(concept, []))[looked]


def _pooled(features: np.ndarray, pool: Pool) -> np.ndarray:
    """Of the tokens of a document [n, k], one row."""
    match pool:
        case Pool.max:
            return features.max(axis=0, keepdims=True)
        case Pool.mean:
            return features.mean(axis=0, keepdims=True)
        case Pool.last:
            return features[-1:]


def _spans(text: str, tokens: TokenizedDocument, taken: np.ndarray) -> list[list[int]]:
    """Where the taken tokens are in the text, in characters; neighbors are joined."""
    assert tokens.n_bytes is not None, "they were counted"
    edges = np.append(0, np.cumsum(tokens.n_bytes))
    at = byte_positions(text)
    spans: list[list[int]] = []
    for number in taken.tolist():
        start = int(np.searchsorted(at, edges[number], side="right")) - 1
        end = int(np.searchsorted(at, edges[number + 1], side="left"))
        if spans and spans[-1][1] >= start:
            spans[-1][1] = max(end, spans[-1][1])
        elif start < end:
            spans.append([start, end])
    return spans
