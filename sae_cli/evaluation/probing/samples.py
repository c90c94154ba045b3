"""Which tokens a concept is learned on, tuned on and tested on.

Documents are divided, not tokens. What is chosen or fitted gets a `Seen`; a test set is an `Unseen`, whose tokens
nothing that chooses or fits accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from sae_cli.config.probe import ProbingConfig


class Side(IntEnum):
    """Of which part a document is."""

    fit = 0
    tune = 1
    test = 2


TUNED = 0.2
"""Share of the training documents on which thresholds are chosen."""


class Tokens(NamedTuple):
    """Tokens of a text.

    Attributes:
        token: the id of each [N].
        previous: that of the one before it in the document, or -1 [N].
        document: the id of its document [N].
        side: a `Side` [N].
        labels: int8 [N, C]: 1, 0, or -1 where there is no label.
    """

    token: np.ndarray
    previous: np.ndarray
    document: np.ndarray
    side: np.ndarray
    labels: np.ndarray


class Part(NamedTuple):
    """Some tokens, by their number among all, ascending [n], and whether each is of the concept [n]."""

    index: np.ndarray
    y: np.ndarray


class Seen(Part):
    """Tokens on which something may be chosen or fitted."""


class Unseen(Part):
    """Tokens on which it is only measured."""


class Sample(NamedTuple):
    """The tokens of one concept, and whether each has its token's fair share of both classes (`matched`)."""

    concept: str
    matched: bool
    fit: Seen
    tune: Seen
    test: Unseen

    @property
    def kind(self) -> str:
        """`matched` or `easy`."""
        return "matched" if self.matched else "easy"


class Skipped(NamedTuple):
    """A concept that there are too few tokens of, and why."""

    concept: str
    kind: str
    reason: str


def only_seen(part: Part) -> Seen:
    """A part that something is chosen on.

    Raises:
        TypeError: it is a test set.
    """
    if not isinstance(part, Seen):
        raise TypeError(f"expected tokens for choosing and fitting, found {type(part).__name__} of {len(part.y):,}")
    return part


def tuned_documents(document: np.ndarray, seed: int) -> np.ndarray:
    """Whether each of these training documents is for tuning: by a hash of its id and the seed, bool [N]."""
    mixed = document.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed * 0xD1B54A32D192ED03 % 2**64)
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2**53 < TUNED


def samples(
    tokens: Tokens, names: tuple[str, ...], settings: ProbingConfig, kinds: tuple[bool, ...] = (False, True)
) -> Iterator[Sample | Skipped]:
    """The tokens of each concept, with negatives at random, then with matched ones.

    Args:
        tokens: all of them.
        names: of the concepts.
        settings: how many are drawn.
        kinds: whether they are matched, in this order.
    """
    if overlap := set(tokens.document[tokens.side == Side.test]) & set(tokens.document[tokens.side != Side.test]):
        raise ValueError(f"document {next(iter(overlap))} is of the test and of the training text")
    for number, name in enumerate(names):
        for matched in kinds:
            yield _sample(tokens, number, name, settings, matched)


def _sample(tokens: Tokens, number: int, name: str, settings: ProbingConfig, matched: bool) -> Sample | Skipped:
    kind = "matched" if matched else "easy"
    rng = np.random.default_rng([settings.seed, matched, *name.encode()])
    sizes = {Side.fit: settings.fit, Side.tune: settings.tune, Side.test: settings.test}
    parts = []
    for side, most in sizes.items():
        own = np.flatnonzero((tokens.side == side) & (tokens.labels[:, number] >= 0))
        is_positive = tokens.labels[own, number] == 1
        chosen = draw(own, is_positive, tokens, most, settings.per_document, matched, rng)
        if reason := _too_few(chosen, tokens, settings, side):
            return Skipped(name, kind, reason)
        parts.append(chosen)
    fit, tune, test = parts
    return Sample(name, matched, Seen(*fit), Seen(*tune), Unseen(*test))


def _too_few(part: Part, tokens: Tokens, settings: ProbingConfig, side: Side) -> str:
    for is_positive, called in ((True, "of it"), (False, "without it")):
        index = part.index[part.y == is_positive]
        documents = len(np.unique(tokens.document[index]))
        if len(index) < settings.least or documents < settings.least_documents:
            return (
                f"{len(index):,} tokens {called} in {documents:,} {side.name} documents, expected at least "
                f"{settings.least:,} in {settings.least_documents:,}"
            )
    return ""


def draw(
    index: np.ndarray,
    is_positive: np.ndarray,
    tokens: Tokens,
    most: int,
    per_document: int,
    matched: bool,
    rng: np.random.Generator,
) -> Part:
    """Tokens of both classes.

    Args:
        index: those that are drawn from [n].
        is_positive: whether each is of the concept [n].
        tokens: what they are.
        most: of each class.
        per_document: of each class from one document.
        matched: whether every token id is there as often in one class as in the other.
        rng: random numbers.
    """
    order = rng.permutation(len(index))
    positives, negatives = index[order[is_positive[order]]], index[order[~is_positive[order]]]
    if matched:
        positives, negatives = _matched(positives, negatives, tokens, most, per_document)
    else:
        positives = _capped(positives, tokens.document, per_document)[:most]
        negatives = _capped(negatives, tokens.document, per_document)[:most]
    both = np.concatenate([positives, negatives])
    y = np.arange(len(both)) < len(positives)
    places = np.argsort(both, kind="stable")
    return Part(both[places], y[places])


def _capped(index: np.ndarray, group: np.ndarray, most: int) -> np.ndarray:
    """The first of each group, in the order that is given."""
    groups = group[index]
    order = np.argsort(groups, kind="stable")
    begins = np.flatnonzero(np.diff(groups[order], prepend=-1))
    place = np.arange(len(order)) - np.repeat(begins, np.diff(np.append(begins, len(order))))
    kept = np.zeros(len(index), dtype=bool)
    kept[order[place < most]] = True
    return index[kept]


def _matched(
    positives: np.ndarray, negatives: np.ndarray, tokens: Tokens, most: int, per_document: int
) -> tuple[np.ndarray, np.ndarray]:
    """As many of each token id on both sides; ids that occur on one side only are dropped."""
    shared = np.intersect1d(tokens.token[positives], tokens.token[negatives])
    positives = positives[np.isin(tokens.token[positives], shared)]
    positives = _capped(positives, tokens.document, per_document)[:most]
    wanted = dict(zip(*(each.tolist() for each in np.unique(tokens.token[positives], return_counts=True)), strict=True))
    left, of_document, chosen = sum(wanted.values()), dict[int, int](), []
    ids, documents = tokens.token[negatives].tolist(), tokens.document[negatives].tolist()
    for place, (token, document) in enumerate(zip(ids, documents, strict=True)):
        if wanted.get(token, 0) and of_document.get(document, 0) < per_document:
            wanted[token] -= 1
            of_document[document] = of_document.get(document, 0) + 1
            chosen.append(place)
            left -= 1
            if not left:
                break
    negatives = negatives[np.array(chosen, dtype=np.int64)]
    found = dict(zip(*(each.tolist() for each in np.unique(tokens.token[negatives], return_counts=True)), strict=True))
    return _at_most(positives, tokens.token, found), negatives


def _at_most(index: np.ndarray, token: np.ndarray, counts: dict[int, int]) -> np.ndarray:
    """As many of each token id as these counts say, those that are there first."""
    left = dict(counts)
    kept = np.zeros(len(index), dtype=bool)
    for place, each in enumerate(token[index].tolist()):
        if left.get(each, 0):
            left[each] -= 1
            kept[place] = True
    return index[kept]
