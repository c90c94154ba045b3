"""The GPU kernel's loops, compiled by Triton.

Entries are stored row after row: those of row n are `starts[n]` to `starts[n + 1]` in `columns` and `values`.
Every program owns what it adds to, so sums do not depend on the order in which programs run. Matrices are
contiguous; D, their width, is a compile-time constant and `BLOCK_D` a power of two that is no smaller.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def products(
    rows, columns, y, W, b, out, number, room,
    D: tl.constexpr, BIASED: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """out[e] = y[row of e] · W[column of e], with BIASED + b[column of e], of the first `number`; 0 of what is none."""
    E = tl.minimum(tl.load(number), room)
    e = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    n = tl.load(rows + e, mask=e < E, other=0).to(tl.int64)[:, None] * D
    f = tl.load(columns + e, mask=e < E, other=0).to(tl.int64)[:, None] * D
    total = tl.zeros((BLOCK_E, BLOCK_D), tl.float32)
    for first in range(0, D, BLOCK_D):
        d = first + tl.arange(0, BLOCK_D)[None, :]
        inside = (e[:, None] < E) & (d < D)
        total += tl.load(y + n + d, mask=inside, other=0.0) * tl.load(W + f + d, mask=inside, other=0.0)
    result = tl.sum(total, axis=1)
    if BIASED:
        result += tl.load(b + tl.load(columns + e, mask=e < E, other=0), mask=e < E, other=0.0)
    tl.store(out + e, tl.where(e < E, result, 0.0), mask=e < room)


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
def column_sums(column_starts, order, values, sums, counts, SUMS: tl.constexpr, BLOCK: tl.constexpr):
    """Of the entries of each column the sum of values, in float64 and rounded once, or how many are positive."""
    f = tl.program_id(0)
    first, last = tl.load(column_starts + f), tl.load(column_starts + f + 1)
    total = tl.zeros((BLOCK,), tl.float64)
    for start in range(first, last, BLOCK):
        at = start + tl.arange(0, BLOCK)
        value = tl.load(values + tl.load(order + at, mask=at < last, other=0), mask=at < last, other=0.0)
        if SUMS:
            total += value.to(tl.float64)
        else:
            total += (value > 0).to(tl.float64)
    if SUMS:
        tl.store(sums + f, tl.sum(total, axis=0).to(tl.float32))
    else:
        tl.store(counts + f, tl.sum(total, axis=0).to(tl.int64))


@triton.jit
def adam(
    parameter, gradient, mean, square, rounded, norms, missed, clip,
    scale, rate, beta1, new1, beta2, new2, root, epsilon,
    D: tl.constexpr, BLOCK_D: tl.constexpr, UNIT_ROWS: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """A step of Adam on one row, read and written once; the numbers are those of `loops.adam`, and
    gradients are multiplied by `clip` too.

    With ROUND the row is also left in bfloat16, and its ‖·‖₄. Where entries were `missed` only the gradient is cleared.
    """
    d = tl.arange(0, BLOCK_D)
    at = tl.program_id(0).to(tl.int64) * D + d
    inside = d < D
    if tl.load(missed) == 0:
        scale_by = scale * tl.load(clip)
        w = tl.load(parameter + at, mask=inside, other=0.0)
        g = scale_by * tl.load(gradient + at, mask=inside, other=0.0)
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
        if ROUND:
            tl.store(rounded + at, w.to(tl.bfloat16), mask=inside)
            squares = tl.where(inside, w * w, 0.0)
            tl.store(norms + tl.program_id(0), tl.sqrt(tl.sqrt(tl.sum(squares * squares, axis=0))))
    tl.store(gradient + at, tl.zeros((BLOCK_D,), tl.float32), mask=inside)
