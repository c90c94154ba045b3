"""What the figures of concepts are made of: tokens with labels, and the features there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.activations.truth import CodedBlock
from sae_cli.config.probe import Pool, ProbingConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.probing.bases import token_scores
from sae_cli.evaluation.probing.capture import Captured, capture, pooled, seen
from sae_cli.evaluation.probing.samples import Sample, Seen, Side, Skipped, Tokens, samples, tuned_documents
from sae_cli.evaluation.probing.text import LabelledText, Read
from sae_cli.evaluation.subject import ModelSubject, SyntheticSubject

TRUTH_PREFIX = "truth."
_TOKENS_A_DOCUMENT = 200
"""Of a known truth, which has no documents: so many activations in a row stand for one."""

Scores = Callable[[Seen, int], np.ndarray]
"""From tokens for fitting and a number of words to the score of each token by itself; see `token_scores`."""


class Material(NamedTuple):
    """Tokens, or documents in their place.

    Attributes:
        tokens: all of them.
        names: of the concepts.
        chosen: numbers of those that were captured, ascending [n].
        captured: what is known of these.
        controls: the same of other dictionaries, by name.
        samples: the tokens of each concept.
        skipped: concepts that there are too few of.
        scores: by token; None where there are no tokens.
        unit: `token` or `document`.
    """

    tokens: Tokens
    names: tuple[str, ...]
    chosen: np.ndarray
    captured: Captured
    controls: dict[str, Captured]
    samples: list[Sample]
    skipped: list[Skipped]
    scores: Scores | None
    unit: str = "token"


@dataclass(frozen=True)
class Probed:
    """A dictionary, and where it is.

    Attributes:
        subject: model and place, or a truth.
        dictionary: of that place.
    """

    subject: ModelSubject | SyntheticSubject
    dictionary: Dictionary


@dataclass(frozen=True)
class MaterialMaker:
    """Reads, chooses and captures.

    Attributes:
        probed: the dictionary.
        controls: others, by name, of the same tokens.
        settings: which tokens.
        pool: of documents with one label.
        pair: two more concepts whose four cells are needed.
        cells: tokens of each of them.
    """

    probed: Probed
    controls: dict[str, Probed]
    settings: ProbingConfig
    pool: Pool
    pair: Sequence[str] = ()
    cells: int = 0

    def of_text(self, text: LabelledText) -> Material:
        """Of a text."""
        read = Read.of(text)
        return self._of_documents(read, text) if text.pooled else self._of_tokens(read, text)

    def _of_tokens(self, read: Read, text: LabelledText) -> Material:
        found, skipped = self._samples(read.tokens, text.names, (False, True))
        chosen = self._chosen(found, read.tokens, text.names)

        def captured(each: Probed) -> Captured:
            assert isinstance(each.subject, ModelSubject)
            return capture(read, chosen, each.subject, each.dictionary)

        def scores(fit: Seen, words: int) -> np.ndarray:
            return token_scores(fit, read.tokens, words)

        controls = {name: captured(each) for name, each in self.controls.items()}
        return Material(read.tokens, text.names, chosen, captured(self.probed), controls, found, skipped, scores)

    def _of_documents(self, read: Read, text: LabelledText) -> Material:
        everything = np.arange(len(read.tokens.token))

        def captured(each: Probed) -> tuple[Captured, np.ndarray, np.ndarray]:
            assert isinstance(each.subject, ModelSubject)
            return pooled(read, everything, each.subject, each.dictionary, self.pool)

        own, first, sizes = captured(self.probed)
        nothing = np.zeros(len(first), dtype=np.int64)
        of = read.tokens
        documents = Tokens(nothing, nothing, of.document[first], of.side[first], of.labels[first])
        found, skipped = self._samples(documents, text.names, (False,))
        unit = np.repeat(np.arange(len(first)), sizes)

        def scores(fit: Seen, words: int) -> np.ndarray:
            y = np.zeros(len(first), dtype=bool)
            y[fit.index[fit.y]] = True
            inside = np.flatnonzero(np.isin(unit, fit.index))
            of_tokens = token_scores(Seen(inside, y[unit[inside]]), of, words)
            return np.bincount(unit, weights=of_tokens, minlength=len(first)) / sizes

        controls = {name: captured(each)[0] for name, each in self.controls.items()}
        return Material(documents, text.names, np.arange(len(first)), own, controls, found, skipped, scores, "document")

    def of_truth(self) -> Material:
        """Of a known truth, whose features are the concepts."""
        subject = self.probed.subject
        assert isinstance(subject, SyntheticSubject)
        directions = len(subject.truth.directions())
        numbers = np.unique(np.linspace(0, directions - 1, min(self.settings.concepts, directions)).round().astype(int))
        of_pair = [self._number(each, directions) for each in self.pair]
        numbers = np.unique(np.append(numbers, np.array(of_pair, dtype=int)))
        names = tuple(f"{TRUTH_PREFIX}{number}" for number in numbers)
        tokens = self._true_tokens(subject, numbers)
        found, skipped = self._samples(tokens, names, (False,))
        chosen = self._chosen(found, tokens, names)

        def captured(each: Probed) -> Captured:
            return Captured.join([seen(each.dictionary, x, x) for x in self._activations(subject, chosen)])

        controls = {name: captured(each) for name, each in self.controls.items()}
        return Material(tokens, names, chosen, captured(self.probed), controls, found, skipped, None)

    def _number(self, name: str, directions: int) -> int:
        number = name.removeprefix(TRUTH_PREFIX)
        if not (name.startswith(TRUTH_PREFIX) and number.isdecimal() and int(number) < directions):
            raise RequestError(
                f"confound={':'.join(self.pair)}: expected truth.0 to truth.{directions - 1}, found {name}"
            )
        return int(number)

    def _blocks(self) -> list[tuple[Split, int]]:
        return [(Split.train, self.settings.tokens), (Split.held_out, self.settings.test_tokens)]

    def _true_tokens(self, subject: SyntheticSubject, numbers: np.ndarray) -> Tokens:
        labels = [_on(coded, numbers) for split, n in self._blocks() for coded in subject.coded_blocks(split, n)]
        n, n_test = self.settings.tokens, self.settings.test_tokens
        document = np.append(np.arange(n) // _TOKENS_A_DOCUMENT, n + np.arange(n_test) // _TOKENS_A_DOCUMENT)
        tuned = tuned_documents(document, self.settings.seed)
        side = np.where(np.arange(n + n_test) >= n, Side.test, np.where(tuned, Side.tune, Side.fit)).astype(np.int8)
        nothing = np.zeros(n + n_test, dtype=np.int64)
        return Tokens(nothing, nothing, document, side, np.concatenate(labels))

    def _activations(self, subject: SyntheticSubject, chosen: np.ndarray) -> Iterator[torch.Tensor]:
        done = 0
        for split, n in self._blocks():
            for coded in subject.coded_blocks(split, n):
                size = coded.block.n
                own = chosen[np.searchsorted(chosen, done) : np.searchsorted(chosen, done + size)] - done
                done += size
                if len(own):
                    yield coded.block.activations[torch.from_numpy(own)]

    def _samples(
        self, tokens: Tokens, names: tuple[str, ...], kinds: tuple[bool, ...]
    ) -> tuple[list[Sample], list[Skipped]]:
        found, skipped = [], []
        for each in samples(tokens, names, self.settings, kinds):
            (found if isinstance(each, Sample) else skipped).append(each)
        if not found and not self.pair:
            reasons = "; ".join(f"{each.concept} ({each.kind}): {each.reason}" for each in skipped[:3])
            raise JobError(
                f"no concept has enough tokens: {reasons}{'; …' if len(skipped) > 3 else ''}; raise probe.tokens and "
                "probe.test_tokens, or lower probe.least"
            )
        return found, skipped

    def _chosen(self, found: list[Sample], tokens: Tokens, names: tuple[str, ...]) -> np.ndarray:
        parts = [part.index for each in found for part in (each.fit, each.tune, each.test)]
        if self.pair:
            parts.append(cell_tokens(tokens, names, self.pair, self.cells, self.settings.seed))
        return np.unique(np.concatenate(parts))


def _on(coded: CodedBlock, numbers: np.ndarray) -> np.ndarray:
    """Which of the true features are on, int8 [n, C]."""
    place = np.full(coded.codes.n_features, -1)
    place[numbers] = np.arange(len(numbers))
    column = place[coded.codes.columns.numpy()]
    found = np.zeros((coded.codes.n_rows, len(numbers)), dtype=np.int8)
    kept = (column >= 0) & (coded.codes.values.numpy() > 0)
    found[coded.codes.rows.numpy()[kept], column[kept]] = 1
    return found


def cell_tokens(tokens: Tokens, names: tuple[str, ...], pair: Sequence[str], most: int, seed: int) -> np.ndarray:
    """Tokens of the four cells of two concepts, of the training text and of the held-out one: at most so many of each,
    and so many again for each side that is fitted on."""
    a, b = (tokens.labels[:, names.index(each)] for each in pair)
    rng = np.random.default_rng([seed, 4])
    found = []
    for test in (False, True):
        for cell in range(4):
            own = np.flatnonzero((a == cell // 2) & (b == cell % 2) & ((tokens.side == Side.test) == test))
            found.append(rng.permutation(own)[: 4 * most])
    return np.concatenate(found)
