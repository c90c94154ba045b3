"""Where in a text features fire: the largest activations and a sample of the others, with the text around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.kernels import context_loops
from sae_cli.kernels.codes import Codes
from sae_cli.metrics.histograms import activation_histogram
from sae_cli.seeds import generator
from sae_cli.tensor_types import Int, Tensor

OVERSAMPLED = 4
"""Contexts that are held for each one that the bands show."""

NO_TOKEN, NO_DOCUMENT = -1, -1

BINS = 1024
"""Of a feature's histogram: 32 factors of two below its largest activation; what is lower still is one bin."""

_FEATURES_AT_ONCE = 2048


@dataclass(frozen=True)
class ContextShape:
    """How many contexts of a feature are kept, and how long they are.

    Attributes:
        top: those of the largest activations.
        bands: quantile bands of the positive activations.
        per_band: random contexts of each band.
        window: tokens around the one that a context is about, half of them before it.
    """

    top: int = 10
    bands: int = 5
    per_band: int = 3
    window: int = 24

    @property
    def width(self) -> int:
        """Tokens of a context, W."""
        return self.window + 1

    @property
    def slots(self) -> int:
        """Contexts of a feature, S."""
        return self.top + self.bands * self.per_band

    @property
    def held(self) -> int:
        """Contexts of a feature that are held until all of the text has been read."""
        return self.top + self.bands * self.per_band * OVERSAMPLED

    @property
    def bytes_a_feature(self) -> int:
        """What a feature takes in memory: a context is W tokens and activations of four bytes, and three numbers of
        eight; the histogram is `BINS` numbers of four bytes. With the defaults 70 contexts of 224 bytes and the
        histogram are 20 kB a feature: 41 MB for 2,048 features, 648 MB for 32,768, whatever the length of the text."""
        return self.held * (8 * self.width + 24) + 4 * self.bins

    @property
    def bins(self) -> int:
        """Of a feature's histogram: none where there are no bands."""
        return BINS if self.bands * self.per_band else 0


class CodedRows(NamedTuple):
    """Rows of text with what fires in them.

    Attributes:
        codes: activations at every counted position, row after row.
        tokens, document: of every position.
    """

    codes: Codes
    tokens: Int[Tensor, "B T"]
    document: Int[Tensor, "B T"]


class ContextCollector:
    """Picks contexts of C features in one pass over rows of text, in memory that does not grow with the text.

    * *Top*: the rows of text with the feature's largest peaks, each at its peak (of equal ones the first).
    * *Bands*: of all positive activations of a feature a uniform random sample of `OVERSAMPLED` · bands · per_band is
      held, those of the largest hash of seed, place in the text and feature. The bands are quantiles of all positive
      activations in the pass, not of the sample, and each shows at most `per_band` of the sample that lie in it, drawn
      at random. Which band one lies in is known exactly where the sample holds all activations; else from a histogram
      of all, whose bins are at most 1/32 of their values wide. One in a bin that a border of bands goes through is
      shown only where there are not enough others; it may be in the next band, less than 1/32 from the border.

    Nothing depends on how many rows are added at once.

    Args:
        features: that are looked for, ascending [C].
        n_features: of the dictionary, F.
        context: tokens in a row of text, T.
        first: positions before this one are not counted.
        shape: how many contexts are kept.
        seed: of the sample.
        first_row: number in the text of the first row that is added, for a part of a text.
    """

    def __init__(
        self,
        features: Int[Tensor, " C"],
        n_features: int,
        context: int,
        first: int,
        shape: ContextShape,
        seed: int,
        first_row: int = 0,
    ) -> None:
        self._made_with = (features, n_features, context, first, shape, seed)
        self.features, self.shape = features.numpy(), shape
        self._context, self._first, self._first_row, self._rows = context, first, first_row, 0
        self._seed = int(torch.randint(2**62, (), generator=generator("contexts", seed)))
        self._slots = np.full(n_features, -1, np.int64)
        self._slots[self.features] = np.arange(len(features))
        self._top = _table(len(features), shape.top, shape.width, np.float32)
        self._sample = _table(len(features), shape.held - shape.top, shape.width, np.int64)
        self._histogram = np.zeros((len(features), shape.bins), np.uint32), np.full(len(features), -1, np.int64)
        self._room = tuple(np.zeros(len(features), dtype) for dtype in (np.float32, np.int64, np.int64))

    @property
    def tokens(self) -> int:
        """Positions that have been looked at."""
        return self._rows * (self._context - self._first)

    @property
    def documents(self) -> set[int]:
        """Documents of the contexts that are held."""
        return set(np.unique(np.concatenate([self._top[4], self._sample[4]], axis=1)).tolist()) - {NO_DOCUMENT}

    def add(self, seen: CodedRows) -> None:
        """Add rows of text."""
        peak, peak_at, touched = self._room
        context_loops.pick(
            seen.codes.starts.numpy(),
            seen.codes.columns.numpy(),
            seen.codes.values.numpy(),
            self.features,
            self._slots,
            seen.tokens.contiguous().numpy(),
            seen.document.contiguous().numpy(),
            self._first,
            self._first_row + self._rows,
            self._seed,
            self._top,
            self._sample,
            self._histogram,
            peak,
            peak_at,
            touched,
        )
        self._rows += len(seen.tokens)

    def merge(self, other: ContextCollector) -> ContextCollector:
        """What one pass over both parts of the text would have kept; their rows must not have a number in common."""
        merged = ContextCollector(*self._made_with, first_row=min(self._first_row, other._first_row))
        merged._rows = self._rows + other._rows
        merged._top = _merged_table(self._top, other._top)
        merged._sample = _merged_table(self._sample, other._sample)
        merged._histogram = _merged_histogram(self._histogram, other._histogram)
        return merged

    def results(self) -> dict[str, Tensor]:
        """What `contexts.safetensors` holds, for S slots a feature: the top contexts, largest first, then the bands
        from the lowest to the highest, `per_band` slots each.

        `feature` int64 [C]; `tokens` int32 [C, S, W]; `activations` float32 [C, S, W]; `document`, `position` (in the
        row) and `quantile` (0 for top contexts, else the band) int64 [C, S]; `peak` float32 [C, S], the activation at
        the position. Empty slots have document -1, tokens -1 and zeros.
        """
        shape = self.shape
        top = _select(self._top, _descending(self._top[2], self._top[3]))
        bands = _select(self._sample, _banded(self._sample, self._histogram, shape))
        both = {name: torch.from_numpy(np.concatenate([top[name], bands[name]], axis=1)) for name in top}
        origin = both.pop("origin")
        groups = [0] * shape.top + [band + 1 for band in range(shape.bands) for _ in range(shape.per_band)]
        return {
            "feature": torch.from_numpy(self.features),
            **both,
            "position": torch.where(origin < 0, 0, origin % self._context),
            "peak": both["activations"][:, :, shape.width // 2].clone(),
            "quantile": torch.tensor(groups, dtype=torch.int64).expand(len(self.features), -1).contiguous(),
        }

    def histograms(self) -> dict[str, Tensor]:
        """How often each feature has activated how strongly, and the borders of the bands (`activation_histogram`);
        nothing where there are no bands, for which it is counted."""
        return activation_histogram(*self._histogram, self.shape.bands) if self.shape.bins else {}


def _table(features: int, slots: int, width: int, score: type) -> tuple[np.ndarray, ...]:
    """An empty table of `context_loops`."""
    return (
        np.zeros(features, score),
        np.zeros(features, np.int64),
        np.zeros((features, slots), score),
        np.full((features, slots), -1, np.int64),
        np.full((features, slots), NO_DOCUMENT, np.int64),
        np.full((features, slots, width), NO_TOKEN, np.int32),
        np.zeros((features, slots, width), np.float32),
    )


def _merged_table(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """The contexts of highest score of both, as if one table had been offered all."""
    slots = one[2].shape[1]
    joined = tuple(np.concatenate(pair, axis=1) for pair in zip(one[2:], other[2:], strict=True))
    order = _descending(joined[0], joined[1])[:, :slots]
    c = np.arange(len(order))[:, None]
    score, origin, *others = (each[c, order] for each in joined)
    if not slots:
        return (*one[:2], score, origin, *others)
    # Of full ones the last slot is the next to be taken, and has the lowest score; else the first empty one.
    taken = (origin >= 0).sum(axis=1)
    next_slot = np.minimum(taken, slots - 1)
    limit = np.where(taken == slots, score[:, -1], 0).astype(score.dtype)
    return (limit, next_slot, score, origin, *others)


def _merged_histogram(
    one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The counts of both, below the higher of the two largest activations."""
    last = np.maximum(one[1], other[1])
    counts = np.zeros_like(one[0])
    bins = counts.shape[1]
    for part_counts, part_last in (one, other) if bins else ():
        c, b = part_counts.nonzero()
        np.add.at(counts, (c, np.maximum(0, b - (last - part_last)[c])), part_counts[c, b])
    return counts, last


def _descending(score: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Slots by score, the highest first, of equal ones the first in the text; empty ones last [C, S]."""
    return np.lexsort((origin, -score, origin < 0), axis=1)


def _banded(table: tuple[np.ndarray, ...], histogram: tuple[np.ndarray, np.ndarray], shape: ContextShape) -> np.ndarray:
    """For each slot of the bands the slot of the sample that it shows, -1 for none [C, bands · per_band]."""
    if not shape.bands * shape.per_band:
        return np.zeros((len(table[3]), 0), np.int64)
    value = np.ascontiguousarray(table[6][:, :, shape.width // 2])
    score, origin = table[2], table[3]
    parts = [slice(i, i + _FEATURES_AT_ONCE) for i in range(0, len(value), _FEATURES_AT_ONCE)]
    shown = [
        _shown(score[part], origin[part], value[part], histogram[0][part], histogram[1][part], shape) for part in parts
    ]
    return np.concatenate(shown) if shown else np.zeros((0, shape.bands * shape.per_band), np.int64)


def _shown(
    score: np.ndarray,
    origin: np.ndarray,
    value: np.ndarray,
    counts: np.ndarray,
    last: np.ndarray,
    shape: ContextShape,
) -> np.ndarray:
    """The same of some features: the sample's scores, origins and activations [C, S], and the histogram of all."""
    # By activation, of equal ones the first in the text; empty slots last.
    order = np.lexsort((origin, np.where(origin < 0, np.inf, value)), axis=1)
    held = np.take_along_axis(origin, order, axis=1) >= 0
    band, certain = _bands(np.take_along_axis(value, order, axis=1), held, counts, last, shape.bands)
    half = np.take_along_axis(score, order, axis=1) >> 1
    preferred = np.where(held, half + np.where(certain, 2**62, 1), 0)
    shown = []
    for each in range(shape.bands):
        drawn = np.where(band == each, preferred, 0)
        chosen = np.argsort(-drawn, axis=1, kind="stable")[:, : shape.per_band]
        found = np.take_along_axis(drawn, chosen, axis=1) > 0
        # The strongest first, empty slots last.
        chosen = -np.sort(np.where(found, -chosen, 1), axis=1)
        shown.append(np.where(chosen >= 0, np.take_along_axis(order, np.maximum(chosen, 0), axis=1), -1))
    return np.concatenate(shown, axis=1)


def _bands(
    value: np.ndarray, held: np.ndarray, counts: np.ndarray, last: np.ndarray, bands: int
) -> tuple[np.ndarray, np.ndarray]:
    """The band of each of a sample among all activations, and whether it is known for certain [C, S].

    Args:
        value: the sample, ascending; where not `held` anything [C, S].
        held: which slots of the sample are taken, the first ones [C, S].
        counts, last: histogram of all activations.
        bands: how many.
    """
    ranks = np.broadcast_to(np.arange(value.shape[1]), value.shape)
    bins = np.clip(counts.shape[1] - 1 + context_loops.bin_of(value) - last[:, None], 0, counts.shape[1] - 1)
    up_to = np.take_along_axis(counts.cumsum(axis=1, dtype=np.int64), bins, axis=1)
    in_bin = np.take_along_axis(counts, bins, axis=1).astype(np.int64)
    total = counts.sum(axis=1, dtype=np.int64)[:, None]
    lowest, highest = up_to - in_bin, np.maximum(up_to - 1, 0)
    first = np.maximum.accumulate(np.where(np.diff(bins, axis=1, prepend=-1) != 0, ranks, 0), axis=1)
    alike = (bins[:, :, None] == bins[:, None, :]) & held[:, None, :]  # of the sample, in one bin
    expected = lowest + (2 * (ranks - first) + 1) * in_bin // np.maximum(2 * alike.sum(axis=2), 1)
    whole = total <= held.sum(axis=1, keepdims=True)  # the sample is all there is
    rank = np.where(whole, ranks, np.minimum(expected, highest))
    n = np.maximum(total, 1)
    certain = whole | (lowest * bands // n == highest * bands // n)
    return np.where(held, np.minimum(rank * bands // n, bands - 1), bands), certain


def _select(table: tuple[np.ndarray, ...], slots: np.ndarray) -> dict[str, np.ndarray]:
    """The contexts in these slots [C, K], -1 for an empty one."""
    _, _, _, origin, document, tokens, activations = table
    c = np.arange(len(slots))[:, None]
    empty = slots < 0
    return {
        "tokens": np.where(empty[:, :, None], np.int32(NO_TOKEN), tokens[c, slots]),
        "activations": np.where(empty[:, :, None], np.float32(0), activations[c, slots]),
        "document": np.where(empty, NO_DOCUMENT, document[c, slots]),
        "origin": np.where(empty, -1, origin[c, slots]),
    }
