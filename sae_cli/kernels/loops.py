"""The loops of the CPU kernels, compiled by numba.

Entries are stored row after row: those of row n are `starts[n]` to `starts[n + 1]` in `columns` and `values`.
Every loop is parallel over rows, or over features where it sums over rows; no result depends on how many
threads there are. Compiled code is cached, so only the first run on a machine waits for the compiler.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit, prange

# Reassociation lets sums use vector registers; NaN and infinity keep their meaning.
_MATH = {"reassoc", "contract", "nsz"}
_compiled = njit(parallel=True, fastmath=_MATH, cache=True, nogil=True)


@_compiled
def block_maxima(pre, width, maxima):
    """The maximum of every `width` neighbors in each row: pre [R, F] -> maxima [R, ceil(F / width)]."""
    for n in prange(pre.shape[0]):
        row = pre[n]
        for b in range(maxima.shape[1]):
            part = row[b * width : (b + 1) * width]
            largest = part[0]
            for i in range(len(part)):
                largest = max(largest, part[i])
            maxima[n, b] = largest


@_compiled
def copy_positive(pre, width, columns, values, counts):
    """The positive entries of each row, in order of column, at the beginning of the same row of `columns`."""
    for n in prange(pre.shape[0]):
        row, at = pre[n], 0
        for b in range(0, len(row), width):
            part = row[b : b + width]
            largest = part[0]
            for i in range(len(part)):
                largest = max(largest, part[i])
            if largest > 0:
                for i in range(len(part)):
                    if part[i] > 0:
                        columns[n, at] = b + i
                        values[n, at] = part[i]
                        at += 1
        counts[n] = at


@_compiled
def copy_top(pre, width, k, limit_of, columns, values, counts):
    """The entries of each row that may be among its k largest and positive, laid out as by `copy_positive`.

    The k largest block maxima are k entries, so the k-th largest entry is no smaller than the least of them;
    `limit_of` says what is above it for sure where values are approximate, and is empty where they are exact.
    """
    for n in prange(pre.shape[0]):
        row, at = pre[n], 0
        maxima = np.empty(-(-len(row) // width), pre.dtype)
        for b in range(len(maxima)):
            part = row[b * width : (b + 1) * width]
            largest = part[0]
            for i in range(len(part)):
                largest = max(largest, part[i])
            maxima[b] = largest
        limit = 0
        if k <= len(maxima):
            least = np.partition(maxima, len(maxima) - k)[len(maxima) - k]
            if least > 0:
                limit = limit_of[least] if len(limit_of) else least - 1
        for b in range(len(maxima)):
            if maxima[b] > limit:
                for i in range(b * width, min((b + 1) * width, len(row))):
                    if row[i] > limit:
                        columns[n, at] = i
                        values[n, at] = row[i]
                        at += 1
        counts[n] = at


@_compiled
def copy_above(pre, width, maxima, limit, columns, values, counts):
    """The entries above a limit, laid out as by `copy_positive`; only blocks whose maximum is above are read."""
    for n in prange(pre.shape[0]):
        row, at = pre[n], 0
        for b in range(maxima.shape[1]):
            if maxima[n, b] > limit:
                for i in range(b * width, min((b + 1) * width, len(row))):
                    columns[n, at] = i
                    values[n, at] = row[i]
                    at += row[i] > limit
        counts[n] = at


@_compiled
def close_up(columns, values, starts, closed_columns, closed_values):
    """Entries without the room that is left at the end of each row."""
    for n in prange(len(starts) - 1):
        for e in range(starts[n + 1] - starts[n]):
            closed_columns[starts[n] + e] = columns[n, e]
            closed_values[starts[n] + e] = values[n, e]


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


@njit(fastmath=_MATH, cache=True, nogil=True, inline="always")
def _add_rows(total, first, last, columns, values, W):
    """total += Σ values · W[column] over some entries: four at a time, so that the total is read and written less."""
    e = first
    while e + 4 <= last:
        a, b, c, d = values[e], values[e + 1], values[e + 2], values[e + 3]
        w, x, y, z = W[columns[e]], W[columns[e + 1]], W[columns[e + 2]], W[columns[e + 3]]
        for i in range(len(total)):
            total[i] += (a * w[i] + b * x[i]) + (c * y[i] + d * z[i])
        e += 4
    while e < last:
        v, w = values[e], W[columns[e]]
        for i in range(len(total)):
            total[i] += v * w[i]
        e += 1


@njit(fastmath=_MATH, cache=True, nogil=True, inline="always")
def _dot_rows(y, first, last, columns, W, out):
    """out[e] = y · W[column of e] of some entries: four at a time, so that y is read less."""
    e = first
    while e + 4 <= last:
        w, x, v, z = W[columns[e]], W[columns[e + 1]], W[columns[e + 2]], W[columns[e + 3]]
        a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for i in range(len(y)):
            a += y[i] * w[i]
            b += y[i] * x[i]
            c += y[i] * v[i]
            d += y[i] * z[i]
        out[e], out[e + 1], out[e + 2], out[e + 3] = a, b, c, d
        e += 4
    while e < last:
        w, total = W[columns[e]], np.float32(0)
        for i in range(len(y)):
            total += y[i] * w[i]
        out[e] = total
        e += 1


@_compiled
def decode(starts, columns, values, W, out):
    """out[n] = Σ values · W[column]."""
    for n in prange(out.shape[0]):
        total = out[n]
        total[:] = 0
        _add_rows(total, starts[n], starts[n + 1], columns, values, W)


@_compiled
def products(starts, columns, y, W, out):
    """out[e] = y[row of e] · W[column of e]."""
    for n in prange(y.shape[0]):
        _dot_rows(y[n], starts[n], starts[n + 1], columns, W, out)


@_compiled
def products_by_column(column_starts, order, rows, y, W, out):
    """`products`, one row of W after another: for entries of a W that no cache holds."""
    for f in prange(W.shape[0]):
        w, at, last = W[f], column_starts[f], column_starts[f + 1]
        while at + 4 <= last:
            p, q, r, s = y[rows[at]], y[rows[at + 1]], y[rows[at + 2]], y[rows[at + 3]]
            a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(len(w)):
                a += w[i] * p[i]
                b += w[i] * q[i]
                c += w[i] * r[i]
                d += w[i] * s[i]
            out[order[at]], out[order[at + 1]], out[order[at + 2]], out[order[at + 3]] = a, b, c, d
            at += 4
        while at < last:
            y_n, total = y[rows[at]], np.float32(0)
            for i in range(len(w)):
                total += y_n[i] * w[i]
            out[order[at]] = total
            at += 1


@_compiled
def round_to_bfloat16(W, rounded, fourth_powers):
    """The rows of W as bfloat16 (its bits), and Σ w⁴ of each."""
    bits = W.view(np.uint32)
    for f in prange(W.shape[0]):
        total = np.float32(0)
        for i in range(W.shape[1]):
            square = W[f, i] * W[f, i]
            total += square * square
            rounded[f, i] = (
                bits[f, i] + np.uint32(0x7FFF) + ((bits[f, i] >> np.uint32(16)) & np.uint32(1))
            ) >> np.uint32(16)
        fourth_powers[f] = total


@_compiled
def residual(starts, columns, values, W, target, error, out):
    """`decode` less the target, and `products` of that error, while the rows of W are still in the cache."""
    for n in prange(target.shape[0]):
        total, wanted = error[n], target[n]
        for i in range(len(total)):
            total[i] = -wanted[i]
        _add_rows(total, starts[n], starts[n + 1], columns, values, W)
        _dot_rows(total, starts[n], starts[n + 1], columns, W, out)


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
        total, at, last = out[f], column_starts[f], column_starts[f + 1]
        while at + 4 <= last:
            a, b, c, d = values[order[at]], values[order[at + 1]], values[order[at + 2]], values[order[at + 3]]
            p, q, r, s = y[rows[at]], y[rows[at + 1]], y[rows[at + 2]], y[rows[at + 3]]
            for i in range(len(total)):
                total[i] += (a * p[i] + b * q[i]) + (c * r[i] + d * s[i])
            at += 4
        while at < last:
            v, y_n = values[order[at]], y[rows[at]]
            for i in range(len(total)):
                total[i] += v * y_n[i]
            at += 1


@_compiled
def adam(parameter, gradient, mean, square, unit_rows, scale, rate, beta1, new1, beta2, new2, root, epsilon):
    """A step of Adam on every row, read and written once.

    The numbers are those of `AdamStep.numbers`.
    """
    for f in prange(parameter.shape[0]):
        w, g, m, v = parameter[f], gradient[f], mean[f], square[f]
        along = np.float32(0)
        if unit_rows:
            for i in range(len(w)):
                along += scale * g[i] * w[i]
        norm = np.float32(0)
        for i in range(len(w)):
            d = scale * g[i] - along * w[i]
            m[i] = beta1 * m[i] + new1 * d
            v[i] = beta2 * v[i] + new2 * d * d
            w[i] -= rate * m[i] / (np.sqrt(v[i]) * root + epsilon)
            norm += w[i] * w[i]
            g[i] = 0
        if unit_rows:
            shrink = np.float32(1) / np.sqrt(norm)
            for i in range(len(w)):
                w[i] *= shrink


@_compiled
def copy_rows(source, rows, places, out):
    """out[places[i]] = source[rows[i]]."""
    for i in prange(len(rows)):
        out[places[i]] = source[rows[i]]


def are_compiled() -> bool:
    """Whether an earlier run on this machine has left the compiled code in the cache."""
    folder = adam.stats.cache_path
    return folder is not None and any(Path(folder).glob("loops.*.nbi"))
