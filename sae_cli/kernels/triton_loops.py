"""The GPU kernel's loops, compiled by Triton.

Entries are stored row after row: those of row n are `starts[n]` to `starts[n + 1]` in `columns` and `values`.
Every program owns what it adds to, so sums do not depend on the order in which programs run. Matrices are
contiguous; D, their width, is a compile-time constant and `BLOCK_D` a power of two that is no smaller.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _products(x, W, n, f, N, F, D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr):
    """x[n] · W[f] of a tile, in float32: x and W are bfloat16."""
    total = tl.zeros((BLOCK_N, BLOCK_F), tl.float32)
    row, column = n.to(tl.int64)[:, None] * D, f.to(tl.int64)[None, :] * D
    for first in range(0, D, BLOCK_D):
        d = first + tl.arange(0, BLOCK_D)
        of_x = tl.load(x + row + d[None, :], mask=(n[:, None] < N) & (d[None, :] < D), other=0.0)
        of_W = tl.load(W + column + d[:, None], mask=(f[None, :] < F) & (d[:, None] < D), other=0.0)
        total = tl.dot(of_x, of_W, total)
    return total


@triton.jit
def screen(
    x, W, b, x_norms, W_norms, limits, counter, rows, columns, capacity, N, F,
    D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Append, in no particular order, every entry that may be positive and no smaller than its row's limit.

    `x_norms[n] · W_norms[f]` bounds the error of a product. Entries past `capacity` are counted only.
    """
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    f = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    pre = _products(x, W, n, f, N, F, D, BLOCK_N, BLOCK_F, BLOCK_D)
    error = tl.load(x_norms + n, mask=n < N, other=0.0)[:, None] * tl.load(W_norms + f, mask=f < F, other=0.0)[None, :]
    upper = pre + tl.load(b + f, mask=f < F, other=0.0)[None, :] + error
    limit = tl.load(limits + n, mask=n < N, other=0.0)[:, None]
    chosen = ((upper > 0) & (upper >= limit) & (n[:, None] < N) & (f[None, :] < F)).to(tl.int32)
    of_row = tl.sum(chosen, axis=1)
    before = (tl.cumsum(of_row, axis=0) - of_row)[:, None] + tl.cumsum(chosen, axis=1) - chosen
    at = tl.atomic_add(counter, tl.sum(of_row, axis=0)) + before
    wanted = (chosen > 0) & (at < capacity)
    tl.store(rows + at, tl.broadcast_to(n[:, None], (BLOCK_N, BLOCK_F)), mask=wanted)
    tl.store(columns + at, tl.broadcast_to(f[None, :], (BLOCK_N, BLOCK_F)), mask=wanted)


@triton.jit
def block_maxima(
    x, W, b, x_norms, W_norms, maxima, N, F,
    D: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A lower bound of the largest of every BLOCK_F neighbors of each row."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    f = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    pre = _products(x, W, n, f, N, F, D, BLOCK_N, BLOCK_F, BLOCK_D)
    error = tl.load(x_norms + n, mask=n < N, other=0.0)[:, None] * tl.load(W_norms + f, mask=f < F, other=0.0)[None, :]
    lower = pre + tl.load(b + f, mask=f < F, other=0.0)[None, :] - error
    largest = tl.max(tl.where(f[None, :] < F, lower, float("-inf")), axis=1)
    tl.store(maxima + n.to(tl.int64) * tl.num_programs(1) + tl.program_id(1), largest, mask=n < N)


@triton.jit
def products(rows, columns, y, W, out, E, D: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr):
    """out[e] = y[row of e] · W[column of e]."""
    e = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.load(rows + e, mask=e < E, other=0).to(tl.int64)[:, None] * D
    f = tl.load(columns + e, mask=e < E, other=0).to(tl.int64)[:, None] * D
    total = tl.zeros((BLOCK_E, BLOCK_D), tl.float32)
    for first in range(0, D, BLOCK_D):
        d = first + tl.arange(0, BLOCK_D)[None, :]
        inside = (e[:, None] < E) & (d < D)
        total += tl.load(y + n + d, mask=inside, other=0.0) * tl.load(W + f + d, mask=inside, other=0.0)
    tl.store(out + e, tl.sum(total, axis=1), mask=e < E)


@triton.jit
def residual(
    starts, columns, values, W, target, error, out,
    D: tl.constexpr, BLOCK_D: tl.constexpr, SUBTRACT: tl.constexpr, ALONG: tl.constexpr,
):  # fmt: skip
    """error[n] = Σ values · W[column] - target[n] (with SUBTRACT), out[e] = error[row of e] · W[column of e] (with
    ALONG)."""
    n = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    first, last = tl.load(starts + n), tl.load(starts + n + 1)
    total = tl.zeros((BLOCK_D,), tl.float32)
    if SUBTRACT:
        total -= tl.load(target + n * D + d, mask=d < D, other=0.0)
    for e in range(first, last):
        f = tl.load(columns + e).to(tl.int64)
        total += tl.load(values + e) * tl.load(W + f * D + d, mask=d < D, other=0.0)
    tl.store(error + n * D + d, total, mask=d < D)
    if ALONG:
        for e in range(first, last):
            f = tl.load(columns + e).to(tl.int64)
            tl.store(out + e, tl.sum(total * tl.load(W + f * D + d, mask=d < D, other=0.0), axis=0))


@triton.jit
def outer_sums(column_starts, order, rows, values, y, total, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """total[f] += Σ over the entries of column f of value · y[row]."""
    f = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    first, last = tl.load(column_starts + f), tl.load(column_starts + f + 1)
    if first < last:
        sums = tl.load(total + f * D + d, mask=d < D, other=0.0)
        for at in range(first, last):
            n = tl.load(rows + at).to(tl.int64)
            value = tl.load(values + tl.load(order + at))
            sums += value * tl.load(y + n * D + d, mask=d < D, other=0.0)
        tl.store(total + f * D + d, sums, mask=d < D)


@triton.jit
def adam(
    parameter, gradient, mean, square, scale, rate, beta1, new1, beta2, new2, root, epsilon,
    D: tl.constexpr, BLOCK_D: tl.constexpr, UNIT_ROWS: tl.constexpr,
):  # fmt: skip
    """A step of Adam on one row, read and written once; the numbers are those of `loops.adam`."""
    d = tl.arange(0, BLOCK_D)
    at = tl.program_id(0).to(tl.int64) * D + d
    inside = d < D
    w = tl.load(parameter + at, mask=inside, other=0.0)
    g = scale * tl.load(gradient + at, mask=inside, other=0.0)
    if UNIT_ROWS:
        g -= tl.sum(g * w, axis=0) * w
    m = beta1 * tl.load(mean + at, mask=inside, other=0.0) + new1 * g
    v = beta2 * tl.load(square + at, mask=inside, other=0.0) + new2 * g * g
    w -= rate * m / (tl.sqrt(v) * root + epsilon)
    if UNIT_ROWS:
        w /= tl.sqrt(tl.sum(w * w, axis=0))
    tl.store(parameter + at, w, mask=inside)
    tl.store(mean + at, m, mask=inside)
    tl.store(square + at, v, mask=inside)
    tl.store(gradient + at, tl.zeros((BLOCK_D,), tl.float32), mask=inside)
