"""The loop that picks contexts out of rows of text, compiled by numba.

A *table* keeps the S contexts of highest score for each of C features. It is a tuple of arrays:

    limit [C]           a context is kept if its score is above this: 0 while slots are empty, then the lowest score
    next_slot [C]       the slot that it takes
    score [C, S]        by which contexts are kept, above 0
    origin [C, S]       row of text times T plus position; -1 where the slot is empty
    document [C, S]     of the token at that position
    tokens [C, S, W]    around it, -1 outside the row
    activations [C, S, W] of the feature there, 0 at positions that are not counted

A *histogram* counts activations in bins of equal relative width (see `bin_of`). It is a pair of arrays:

    counts [C, bins]    the last bin is that of the largest activation so far; the first one also counts all below it
    last [C]            number of the last bin, -1 where nothing has been counted
"""

from __future__ import annotations

import numpy as np
from numba import njit

_compiled = njit(cache=True, nogil=True)

MANTISSA_BITS = 5
"""Bins to a factor of two: 2⁵, so that a bin is at most 1/32 of its values wide."""


@_compiled
def hashed(seed, origin, feature):
    """A number in 1 .. 2⁶³ - 1 that looks random and is a function of these (the finaliser of SplitMix64, twice)."""
    z = np.uint64(seed)
    for each in (np.uint64(origin), np.uint64(feature)):
        z = (z ^ each) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return np.int64((z >> np.uint64(1)) | np.uint64(1))


@_compiled
def _activation(starts, columns, values, n, feature):
    """The value of a feature at one token: a search in the columns of its entries, which ascend."""
    low, high = starts[n], starts[n + 1]
    while low < high:
        middle = (low + high) // 2
        if columns[middle] < feature:
            low = middle + 1
        else:
            high = middle
    return values[low] if low < starts[n + 1] and columns[low] == feature else np.float32(0)


@_compiled
def _keep(table, c, feature, score, row, position, row_tokens, row_document, first, starts, columns, values, begin):
    """Put a context into a slot and find the next one; `begin` is the number of the row's first counted token."""
    limit, next_slot, scores, origins, documents, tokens, activations = table
    s = next_slot[c]
    scores[c, s], origins[c, s] = score, row * len(row_tokens) + position
    documents[c, s] = row_document[position]
    before = tokens.shape[2] // 2
    for w in range(tokens.shape[2]):
        p = position - before + w
        tokens[c, s, w], activations[c, s, w] = -1, 0
        if 0 <= p < len(row_tokens):
            tokens[c, s, w] = row_tokens[p]
            if p >= first:
                activations[c, s, w] = _activation(starts, columns, values, begin + p - first, feature)
    weakest = 0
    for s in range(scores.shape[1]):
        if origins[c, s] < 0:
            next_slot[c] = s
            return
        # Of equal scores the latest goes first, so that the order of the text decides.
        lower = scores[c, s] < scores[c, weakest]
        if lower or (scores[c, s] == scores[c, weakest] and origins[c, s] > origins[c, weakest]):
            weakest = s
    next_slot[c], limit[c] = weakest, scores[c, weakest]


@_compiled
def _count(histogram, c, bin_number):
    """Count an activation. What is counted where depends on the activations, not on their order."""
    counts, last = histogram
    bins = counts.shape[1]
    shift = bin_number - last[c]
    if shift > 0:
        for b in range(1, bins):
            if b <= shift:
                counts[c, 0] += counts[c, b]
            else:
                counts[c, b - shift] = counts[c, b]
        for b in range(max(1, bins - shift), bins):
            counts[c, b] = 0
        last[c] = bin_number
    counts[c, max(0, bins - 1 + bin_number - last[c])] += 1


@_compiled
def bin_of(values):
    """The number of the bin of positive float32 numbers: exponent and first bits of the mantissa."""
    return values.view(np.int32) >> (23 - MANTISSA_BITS)


@_compiled
def pick(
    starts, columns, values, features, slots, tokens, document, first, row, seed, top, sample, histogram, peak, peak_at,
    touched,
):  # fmt: skip
    """Look for contexts in B rows of text.

    Args:
        starts, columns, values: the entries of all counted positions, row of text after row, as in `Codes`.
        features: that are looked for [C].
        slots: the place of each feature among these, -1 where it is not looked for [F].
        tokens, document: of every position [B, T].
        first: positions before this one are not counted.
        row: number of the first row of text.
        seed: of the random sample.
        top: table of the largest peaks, at most one a row of text; scores are peaks.
        sample: table of a random sample of the positive activations; scores are hashes.
        histogram: of all positive activations; of no bins to count nothing.
        peak, peak_at, touched: room for C numbers; `peak` is zero, and is left so.
    """
    counted, bin_numbers = tokens.shape[1] - first, bin_of(values)
    for b in range(len(tokens)):
        begin, n_touched = b * counted, 0
        for n in range(begin, begin + counted):
            position = n - begin + first
            origin = (row + b) * tokens.shape[1] + position
            for e in range(starts[n], starts[n + 1]):
                feature = columns[e]
                c = slots[feature]
                if c < 0:
                    continue
                if values[e] > peak[c]:
                    if peak[c] == 0:
                        touched[n_touched] = c
                        n_touched += 1
                    peak[c], peak_at[c] = values[e], position
                if histogram[0].shape[1]:
                    _count(histogram, c, bin_numbers[e])
                score = hashed(seed, origin, feature)
                if sample[2].shape[1] and score > sample[0][c]:
                    _keep(
                        sample, c, feature, score, row + b, position, tokens[b], document[b], first,
                        starts, columns, values, begin,
                    )  # fmt: skip
        for c in touched[:n_touched]:
            if top[2].shape[1] and peak[c] > top[0][c]:
                _keep(
                    top, c, features[c], peak[c], row + b, peak_at[c], tokens[b], document[b], first,
                    starts, columns, values, begin,
                )  # fmt: skip
            peak[c] = 0
