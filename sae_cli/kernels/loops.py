"""The sparse loops of the CPU kernel, compiled by numba.

Entries are stored row after row: those of row n are `starts[n]` to `starts[n + 1]` in `columns` and `values`.
Every loop is parallel over rows, or over features where it sums over rows; no result depends on how many
threads there are. Compiled code is cached, so only the first run on a machine waits for the compiler.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

# Reassociation lets sums use vector registers; NaN and infinity keep their meaning.
_MATH = {"reassoc", "contract", "nsz"}
_compiled = njit(parallel=True, fastmath=_MATH, cache=True, nogil=True)


@njit(parallel=True, fastmath=_MATH | {"nnan", "ninf"}, cache=True, nogil=True)
def block_maxima(pre, width, maxima):
    """The maximum of every `width` neighbours in each row: pre [R, F] -> maxima [R, ceil(F / width)]."""
    for n in prange(pre.shape[0]):
        row = pre[n]
        for b in range(maxima.shape[1]):
            part = row[b * width : (b + 1) * width]
            largest = part[0]
            for i in range(len(part)):
                largest = max(largest, part[i])
            maxima[n, b] = largest


@_compiled
def kth_largest(values, k, out):
    """The k-th largest of each row."""
    for n in prange(values.shape[0]):
        out[n] = np.partition(values[n], values.shape[1] - k)[values.shape[1] - k]


@_compiled
def count_above(pre, width, maxima, threshold, counts):
    """How many entries of each row are above its threshold; only blocks whose maximum is are read."""
    for n in prange(pre.shape[0]):
        row, limit, count = pre[n], threshold[n], 0
        for b in range(maxima.shape[1]):
            if maxima[n, b] > limit:
                part = row[b * width : (b + 1) * width]
                for i in range(len(part)):
                    count += part[i] > limit
        counts[n] = count


@_compiled
def copy_above(pre, width, maxima, threshold, starts, columns, values):
    """The entries that `count_above` counted, in order of column."""
    for n in prange(pre.shape[0]):
        row, limit, at = pre[n], threshold[n], starts[n]
        for b in range(maxima.shape[1]):
            if maxima[n, b] > limit:
                for i in range(b * width, min((b + 1) * width, pre.shape[1])):
                    if row[i] > limit:
                        columns[at] = i
                        values[at] = row[i]
                        at += 1


@_compiled
def mark_largest(starts, values, k, chosen):
    """Mark the k largest positive entries of each row; of equal ones, those that come first."""
    for n in prange(len(starts) - 1):
        first, last = starts[n], starts[n + 1]
        limit = np.float32(0)
        if last - first > k:
            limit = max(limit, np.partition(values[first:last], last - first - k)[last - first - k])
        left = k
        for e in range(first, last):
            chosen[e] = values[e] > limit
            left -= chosen[e]
        for e in range(first, last):
            if left > 0 and limit > 0 and values[e] == limit:
                chosen[e] = True
                left -= 1


@_compiled
def scatter(starts, columns, values, dense):
    """Write values to their places in a dense matrix, and zeros everywhere else."""
    for n in prange(dense.shape[0]):
        row = dense[n]
        row[:] = 0
        for e in range(starts[n], starts[n + 1]):
            row[columns[e]] = values[e]


@_compiled
def gather(starts, columns, dense, out):
    """Read the entries of a dense matrix."""
    for n in prange(dense.shape[0]):
        row = dense[n]
        for e in range(starts[n], starts[n + 1]):
            out[e] = row[columns[e]]


@_compiled
def decode(starts, columns, values, W, out):
    """out[n] = Σ values · W[column]."""
    for n in prange(out.shape[0]):
        total = out[n]
        total[:] = 0
        for e in range(starts[n], starts[n + 1]):
            v, w = values[e], W[columns[e]]
            for i in range(len(total)):
                total[i] += v * w[i]


@_compiled
def products(starts, columns, y, W, out):
    """out[e] = y[row of e] · W[column of e]."""
    for n in prange(y.shape[0]):
        y_n = y[n]
        for e in range(starts[n], starts[n + 1]):
            w, total = W[columns[e]], np.float32(0)
            for i in range(len(y_n)):
                total += y_n[i] * w[i]
            out[e] = total


@_compiled
def residual(starts, columns, values, W, target, error, out):
    """`decode` less the target, and `products` of that error, while the rows of W are still in the cache."""
    for n in prange(target.shape[0]):
        total, wanted = error[n], target[n]
        for i in range(len(total)):
            total[i] = -wanted[i]
        for e in range(starts[n], starts[n + 1]):
            v, w = values[e], W[columns[e]]
            for i in range(len(total)):
                total[i] += v * w[i]
        for e in range(starts[n], starts[n + 1]):
            w, dot = W[columns[e]], np.float32(0)
            for i in range(len(total)):
                dot += total[i] * w[i]
            out[e] = dot


@njit(cache=True, nogil=True)
def column_order(starts, columns, column_starts, order, rows):
    """Entries sorted by column, those of one column by row: a counting sort."""
    for e in range(len(columns)):
        column_starts[columns[e] + 1] += 1
    for f in range(len(column_starts) - 1):
        column_starts[f + 1] += column_starts[f]
    free = column_starts[:-1].copy()
    for n in range(len(starts) - 1):
        for e in range(starts[n], starts[n + 1]):
            at = free[columns[e]]
            order[at] = e
            rows[at] = n
            free[columns[e]] = at + 1


@_compiled
def outer_sums(column_starts, order, rows, values, y, out):
    """out[f] += Σ over the entries of column f of value · y[row]."""
    for f in prange(out.shape[0]):
        total = out[f]
        for at in range(column_starts[f], column_starts[f + 1]):
            v, y_n = values[order[at]], y[rows[at]]
            for i in range(len(total)):
                total[i] += v * y_n[i]
