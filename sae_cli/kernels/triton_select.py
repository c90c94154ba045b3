"""The loops that find entries on a GPU, compiled by Triton.

What is found is marked: bit i of word w of row n in `words` [N, ceil(F / 32)] says that place 32 w + i is wanted, and
`counts` [N, tiles] how many of a tile are. Prefix sums of the counts say where each entry goes, so entries are in order
without being sorted, and the host need not know how many there are. A place is a feature, or with FEATURES a number in
`features`, of which the first `listed[1]` are looked at; with ROWS only the first `listed[0]` rows of `row_list` are.
"""

# What Triton's functions return is not what their annotations say.
# pyright: reportArgumentType=false, reportOperatorIssue=false

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
    x, W, b, x_norms, W_norms, limits, row_list, features, listed, words, counts, sure, N, F,
    D: tl.constexpr, ROWS: tl.constexpr, FEATURES: tl.constexpr, SURE: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Mark every entry that may be positive and no smaller than its row's limit.

    `x_norms[n] · W_norms[f]` bounds the error of a product. With SURE those that are no smaller for sure are counted.
    """
    tile, tiles = tl.program_id(1), tl.num_programs(1)
    rows, places = N, F
    if ROWS:
        rows = tl.load(listed)
    if FEATURES:
        places = tl.load(listed + 1)
    at = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    place = tile * BLOCK_F + tl.arange(0, BLOCK_F)
    if (tl.program_id(0) * BLOCK_N < rows) & (tile * BLOCK_F < places):
        n, f = at, place
        if ROWS:
            n = tl.load(row_list + at, mask=at < rows, other=N)
        if FEATURES:
            f = tl.load(features + place, mask=place < places, other=F)
        pre = _products(x, W, n, f, N, F, D, BLOCK_N, BLOCK_F, BLOCK_D)
        norms = tl.load(W_norms + f, mask=f < F, other=0.0)[None, :]
        error = tl.load(x_norms + n, mask=n < N, other=0.0)[:, None] * norms
        pre += tl.load(b + f, mask=f < F, other=0.0)[None, :]
        limit = tl.load(limits + n, mask=n < N, other=0.0)[:, None]
        inside = (n[:, None] < N) & (f[None, :] < F)
        to = n.to(tl.int64) * tiles + tile
        if SURE:
            is_sure = ((pre - error > 0) & (pre - error >= limit) & inside).to(tl.int32)
            tl.store(sure + to, tl.sum(is_sure, axis=1), mask=n < N)
        upper = pre + error
        chosen = ((upper > 0) & (upper >= limit) & inside).to(tl.int32)
        tl.store(counts + to, tl.sum(chosen, axis=1), mask=n < N)
        bits = tl.reshape(chosen, (BLOCK_N, BLOCK_F // 32, 32)) << tl.arange(0, 32)[None, None, :]
        word = to[:, None] * (BLOCK_F // 32) + tl.arange(0, BLOCK_F // 32)[None, :]
        tl.store(words + word, tl.sum(bits, axis=2), mask=n[:, None] < N)


@triton.jit
def block_maxima(
    x, W, b, x_norms, W_norms, row_list, features, listed, maxima, N, F,
    D: tl.constexpr, ROWS: tl.constexpr, FEATURES: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """A lower bound of the largest of every BLOCK_F neighbors of each row."""
    rows, places = N, F
    if ROWS:
        rows = tl.load(listed)
    if FEATURES:
        places = tl.load(listed + 1)
    at = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    place = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)
    if tl.program_id(0) * BLOCK_N < rows:
        n, f = at, place
        if ROWS:
            n = tl.load(row_list + at, mask=at < rows, other=N)
        largest = tl.full((BLOCK_N,), float("-inf"), tl.float32)
        if tl.program_id(1) * BLOCK_F < places:
            if FEATURES:
                f = tl.load(features + place, mask=place < places, other=F)
            pre = _products(x, W, n, f, N, F, D, BLOCK_N, BLOCK_F, BLOCK_D)
            norms = tl.load(W_norms + f, mask=f < F, other=0.0)[None, :]
            error = tl.load(x_norms + n, mask=n < N, other=0.0)[:, None] * norms
            lower = pre + tl.load(b + f, mask=f < F, other=0.0)[None, :] - error
            largest = tl.max(tl.where(f[None, :] < F, lower, float("-inf")), axis=1)
        tl.store(maxima + n.to(tl.int64) * tl.num_programs(1) + tl.program_id(1), largest, mask=n < N)


@triton.jit
def row_limits(maxima, row_list, listed, limits, k, B, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr):
    """limits[n] = the k-th largest of the B maxima of each listed row; 0 where fewer than k are positive.

    Positive numbers are in the order of their bits, which are found from the first to the last.
    """
    i, rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N), tl.load(listed)
    if tl.program_id(0) * BLOCK_N < rows:
        n = tl.load(row_list + i, mask=i < rows, other=0).to(tl.int64)
        found = tl.zeros((BLOCK_N,), tl.int32)
        for bit in range(31):
            tried = found | (1 << (30 - bit))
            reach = tl.zeros((BLOCK_N,), tl.int32)
            for first in range(0, B, BLOCK):
                at = first + tl.arange(0, BLOCK)
                value = tl.load(maxima + n[:, None] * B + at[None, :], mask=at[None, :] < B, other=0.0)
                reach += tl.sum((value.to(tl.int32, bitcast=True) >= tried[:, None]).to(tl.int32), axis=1)
            found = tl.where(reach >= k, tried, found)
        tl.store(limits + n, found.to(tl.float32, bitcast=True), mask=i < rows)


@triton.jit
def batch_limit(histogram, listed, limits, wanted, N, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """For all rows, if they are listed, the least limit above which the histogram of maxima has `wanted`, else 0."""
    if tl.load(listed) > 0:
        bins = tl.arange(0, BINS)
        counts = tl.load(histogram + bins)
        from_here = tl.sum(counts, axis=0) - tl.cumsum(counts, axis=0) + counts
        lowest = tl.max(tl.where(from_here >= wanted, bins, 0), axis=0)
        limit = (lowest << 20).to(tl.float32, bitcast=True)
        n = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(limits + n, tl.zeros((BLOCK,), tl.float32) + limit, mask=n < N)


@triton.jit
def add_to_histogram(maxima, listed, histogram, number, BLOCK: tl.constexpr):
    """How many positive maxima have each beginning: sign, exponent and three digits, 12 bits."""
    if tl.load(listed) > 0:
        at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        value = tl.load(maxima + at, mask=at < number, other=0.0)
        bits = value.to(tl.int32, bitcast=True)
        tl.atomic_add(histogram + (bits >> 20), tl.full((BLOCK,), 1, tl.int32), mask=(at < number) & (value > 0))


@triton.jit
def places(
    words, offsets, features, rows, columns, room, F, TILES: tl.constexpr, WORDS: tl.constexpr,
    FEATURES: tl.constexpr, CHUNK: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """Rows and columns of the marked entries, in order; those past `room` are left out."""
    n, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    per_chunk = CHUNK // BLOCK_F
    tile = n * TILES + chunk * per_chunk
    first = tl.load(offsets + tile)
    last = tl.load(offsets + tl.minimum(tile + per_chunk, n * TILES + TILES))
    if first < last:
        word = chunk * (CHUNK // 32) + tl.arange(0, CHUNK // 32)
        packed = tl.load(words + n * WORDS + word, mask=word < WORDS, other=0)
        bits = tl.reshape((packed[:, None] >> tl.arange(0, 32)[None, :]) & 1, (CHUNK,))
        at = first + tl.cumsum(bits, axis=0) - bits
        place = chunk * CHUNK + tl.arange(0, CHUNK)
        wanted = (bits > 0) & (at < room)
        f = place
        if FEATURES:
            f = tl.load(features + place, mask=wanted & (place < F), other=0)
        tl.store(rows + at, tl.zeros((CHUNK,), tl.int32) + n.to(tl.int32), mask=wanted)
        tl.store(columns + at, f.to(tl.int32), mask=wanted)


@triton.jit
def mark_largest(starts, values, k, chosen, smallest, N, BLOCK_N: tl.constexpr, BLOCK: tl.constexpr):
    """Mark the k largest positive entries of each row, of equal ones those that come first; the least of them."""
    n = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    first = tl.load(starts + n, mask=n < N, other=0)[:, None]
    length = tl.load(starts + n + 1, mask=n < N, other=0)[:, None] - first
    longest = tl.max(tl.max(length, axis=1), axis=0)
    found = tl.zeros((BLOCK_N,), tl.int32)
    for bit in range(31):
        tried = found | (1 << (30 - bit))
        reach = tl.zeros((BLOCK_N,), tl.int32)
        for start in range(0, longest, BLOCK):
            at = start + tl.arange(0, BLOCK)[None, :]
            value = tl.load(values + first + at, mask=at < length, other=0.0)
            reach += tl.sum((value.to(tl.int32, bitcast=True) >= tried[:, None]).to(tl.int32), axis=1)
        found = tl.where(reach >= k, tried, found)
    larger = tl.zeros((BLOCK_N,), tl.int32)
    for start in range(0, longest, BLOCK):
        at = start + tl.arange(0, BLOCK)[None, :]
        value = tl.load(values + first + at, mask=at < length, other=0.0)
        larger += tl.sum((value.to(tl.int32, bitcast=True) > found[:, None]).to(tl.int32), axis=1)
    left, least = k - larger, tl.full((BLOCK_N,), float("inf"), tl.float32)
    for start in range(0, longest, BLOCK):
        at = start + tl.arange(0, BLOCK)[None, :]
        value = tl.load(values + first + at, mask=at < length, other=0.0)
        bits = value.to(tl.int32, bitcast=True)
        equal = ((bits == found[:, None]) & (bits > 0)).to(tl.int32)
        taken = (bits > found[:, None]) | ((equal > 0) & (tl.cumsum(equal, axis=1) <= left[:, None]))
        left -= tl.sum(equal, axis=1)
        least = tl.minimum(least, tl.min(tl.where(taken, value, float("inf")), axis=1))
        tl.store(chosen + first + at, taken, mask=at < length)
    tl.store(smallest + n, least, mask=n < N)
