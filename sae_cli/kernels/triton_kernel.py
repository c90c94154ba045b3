"""The sparse kernel for GPUs: what `sparse.py` does, in Triton, without any [N, F] matrix in memory.

One bfloat16 product of tiles finds the entries that can matter and writes only their places; their values are
computed again in float32.
"""

# Triton takes plain numbers for its compile-time constants, whatever their annotations say.
# pyright: reportArgumentType=false

from __future__ import annotations

import torch
import triton

from sae_cli.kernels import triton_loops as loops
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import AdamState, AdamStep, Kernel
from sae_cli.kernels.screening import BFLOAT16_ERROR
from sae_cli.tensor_types import Bool, Float, Int, Tensor

SCREEN = {"BLOCK_N": 64, "BLOCK_F": 128, "BLOCK_D": 64, "num_warps": 8}
"""Tiles of `screen`: the largest whose products stay in registers on NVIDIA's and whose products fit into the 64 KiB of
shared memory of AMD's MI200 and MI300."""
_NEIGHBOURS = 64  # features whose maximum is looked at
MAXIMA = {"BLOCK_N": 128, "BLOCK_F": _NEIGHBOURS, "BLOCK_D": 64, "num_warps": 4}
_ENTRIES = 16  # that a program multiplies
_CHUNK = 256  # numbers of a row at once, where rows are multiplied one by one
_WIDE = 4096  # numbers of a row that four warps hold in registers
_ROOM = 1.5  # for entries, against how many there were last time
_GUESS = 0.9  # of the smallest entries that were kept last time: what to look for first


class TritonKernel(Kernel):
    """Exact float32 values and gradients at the entries.

    What it remembers from one batch to the next, how many entries there were and how large they had to be, saves
    a second look at the batch and changes no result.
    """

    def __init__(self) -> None:
        self._room = 0
        self._guesses: dict[tuple[int, int], float] = {}

    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        found = self._entries(_Screen(x, W, b), x.new_zeros(len(x)))
        return found.keep(found.values > 0)

    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        screen, guess = _Screen(x, W, b), self._guesses.get((len(W), k))
        limits = _kth_largest(screen.maxima(), k) if guess is None else x.new_full((len(x),), guess)
        found = self._entries(screen, limits)
        if guess is not None:
            reached = found.rows[found.values >= guess]
            short = torch.bincount(reached, minlength=len(x)) < k
            if bool(short.any()):
                limits[short] = _kth_largest(_Screen(x[short], W, b).maxima(), k)
                found = self._entries(screen, limits)
        kept = found.keep(_largest_of_rows(found, k) & (found.values > 0))
        smallest = x.new_full((len(x),), torch.inf).scatter_reduce(0, kept.rows, kept.values, "amin")
        self._guesses[len(W), k] = _GUESS * float(smallest.quantile(0.1))
        return kept

    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        screen, wanted = _Screen(x, W, b), len(x) * k
        limit = self._guesses.get((len(W), k), torch.inf)
        found = self._entries(screen, x.new_full((len(x),), limit))
        if int((found.values >= limit).sum()) < wanted:
            limit = float(_kth_largest(screen.maxima().view(1, -1), wanted))
            found = self._entries(screen, x.new_full((len(x),), limit))
        largest = found.values.topk(min(wanted, len(found.values)))
        chosen = torch.zeros_like(found.values, dtype=torch.bool)
        chosen[largest.indices] = True
        kept = found.keep(chosen & (found.values > 0))
        self._guesses[len(W), k] = _GUESS * float(kept.values.min()) if len(kept.values) else torch.inf
        return kept

    def _entries(self, screen: _Screen, limits: Float[Tensor, " N"]) -> Codes:
        """Every entry that is no smaller than its row's limit and positive, and perhaps a few more."""
        while True:
            rows, columns, number = screen.places(limits, self._room)
            if number <= self._room:
                break
            self._room = int(_ROOM * number)
        keys = (rows[:number].long() * len(screen.W) + columns[:number]).sort().values
        rows, columns = keys // len(screen.W), keys % len(screen.W)
        values = _products(rows, columns, screen.x, screen.W) + screen.b[columns]
        return Codes(_starts(rows, len(limits)), columns.int(), values, len(screen.W))

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        return _residual(codes, values, W, None)[0]

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        return _products(codes.rows, codes.columns, y, W)

    def residual(
        self,
        codes: Codes,
        values: Float[Tensor, " E"],
        W: Float[Tensor, "F D"],
        target: Float[Tensor, "N D"],
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, " E"]]:
        return _residual(codes, values, W, target)

    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        starts, order, rows = codes.by_column
        sizes = of_row(y.shape[1])
        loops.outer_sums[len(total),](starts, order, rows, values.contiguous(), y.contiguous(), total, **sizes)

    def adam(self, state: AdamState, step: AdamStep, unit_rows: bool) -> None:
        parameter = state.parameter
        width = parameter.shape[1] if parameter.ndim == 2 else 1
        loops.adam[parameter.numel() // width,](*state, *step.numbers, UNIT_ROWS=unit_rows, **of_row(width))


class _Screen:
    """Products in bfloat16 of a batch with the encoder, with a bound of each one's error."""

    def __init__(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> None:
        self.x, self.W, self.b = x.contiguous(), W.contiguous(), b
        # The error of a product is at most the product of these two (see screening.Bfloat16Screen).
        norms = torch.linalg.vector_norm(x, ord=4, dim=1) * BFLOAT16_ERROR, torch.linalg.vector_norm(W, ord=4, dim=1)
        self._inputs = (_rounded(self.x), _rounded(self.W), b.contiguous(), *norms)
        self._shape = (len(x), len(W), x.shape[1])

    def places(self, limits: Float[Tensor, " N"], room: int) -> tuple[Int[Tensor, " room"], Int[Tensor, " room"], int]:
        """Rows and columns of the entries that may reach the limits, and their number, which may exceed `room`."""
        n, features, _ = self._shape
        rows, columns = (torch.empty(room, dtype=torch.int32, device=limits.device) for _ in range(2))
        counter = torch.zeros(1, dtype=torch.int32, device=limits.device)
        grid = triton.cdiv(n, SCREEN["BLOCK_N"]), triton.cdiv(features, SCREEN["BLOCK_F"])
        loops.screen[grid](*self._inputs, limits, counter, rows, columns, room, *self._shape, **SCREEN)
        return rows, columns, int(counter)

    def maxima(self) -> Float[Tensor, "N _"]:
        """A lower bound of the largest of every few neighbors."""
        n, features, _ = self._shape
        grid = triton.cdiv(n, MAXIMA["BLOCK_N"]), triton.cdiv(features, _NEIGHBOURS)
        maxima = torch.empty(n, grid[1], device=self.x.device)
        loops.block_maxima[grid](*self._inputs, maxima, *self._shape, **MAXIMA)
        return maxima


def of_row(width: int) -> dict[str, int]:
    """How a program that holds whole rows of this width is compiled: with as many warps as keep them in registers."""
    block = triton.next_power_of_2(width)
    return {"D": width, "BLOCK_D": block, "num_warps": 16 if block > _WIDE else 4}


def of_products(width: int) -> dict[str, int]:
    """How `products` of rows of this width is compiled."""
    return {"D": width, "BLOCK_E": _ENTRIES, "BLOCK_D": min(_CHUNK, triton.next_power_of_2(width)), "num_warps": 4}


def _rounded(matrix: Tensor) -> Tensor:
    """In bfloat16; for Triton's interpreter, which cannot multiply that, its values in float32."""
    rounded = matrix.bfloat16()
    return rounded if matrix.is_cuda else rounded.float()


def _kth_largest(maxima: Float[Tensor, "R B"], k: int) -> Float[Tensor, " R"]:
    """No more than the k-th largest entry of each row: the k largest maxima are k entries. At least 0."""
    if maxima.shape[1] < k:
        return maxima.new_zeros(len(maxima))
    return maxima.topk(k, dim=1).values[:, -1].clamp_min(0)


def _largest_of_rows(codes: Codes, k: int) -> Bool[Tensor, " E"]:
    """The k largest of each row; of equal ones, those that come first."""
    by_size = codes.values.argsort(descending=True, stable=True)
    order = by_size[codes.rows[by_size].argsort(stable=True)]
    rank = torch.arange(len(order), device=order.device) - codes.starts[codes.rows]
    return torch.zeros_like(codes.values, dtype=torch.bool).scatter_(0, order, rank < k)


def _starts(rows: Int[Tensor, " E"], n_rows: int) -> Int[Tensor, " N1"]:
    return torch.nn.functional.pad(torch.bincount(rows, minlength=n_rows).cumsum(0), (1, 0))


def _products(
    rows: Int[Tensor, " E"], columns: Int[Tensor, " E"], y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]
) -> Float[Tensor, " E"]:
    out, width = y.new_empty(len(rows)), y.shape[1]
    if len(rows):
        programs, inputs = triton.cdiv(len(rows), _ENTRIES), (y.contiguous(), W.contiguous())
        loops.products[programs,](rows, columns, *inputs, out, len(rows), **of_products(width))
    return out


def _residual(
    codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"], target: Float[Tensor, "N D"] | None
) -> tuple[Float[Tensor, "N D"], Float[Tensor, " E"]]:
    width, wanted = W.shape[1], target is not None
    error, out = W.new_empty(codes.n_rows, width), torch.empty_like(values)
    given = target.contiguous() if target is not None else error
    loops.residual[codes.n_rows,](
        codes.starts, codes.columns, values.contiguous(), W.contiguous(), given, error, out,
        SUBTRACT=wanted, ALONG=wanted, **of_row(width),
    )  # fmt: skip
    return error, out
