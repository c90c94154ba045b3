"""The sparse kernel for GPUs: what `sparse.py` does, in Triton, without any [N, F] matrix of numbers in memory.

One bfloat16 product of tiles finds the entries that can matter and marks only their places; their values are
computed again in float32.
"""

# Triton takes plain numbers for its compile-time constants, whatever their annotations say.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch
import triton

from sae_cli.kernels import triton_loops as loops
from sae_cli.kernels import triton_select as select
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import AdamState, AdamStep, Kernel
from sae_cli.kernels.padded import PaddedCodes
from sae_cli.kernels.triton_screen import Rounded, Screen
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_ENTRIES = 16  # that a program multiplies
_CHUNK = 256  # numbers of a row at once, where rows are multiplied one by one
_WIDE = 4096  # numbers of a row that four warps hold in registers
_ROOM = 1.5  # for entries, against how many there were last time
_ROOMY = 4  # times as much room as is needed: it is made smaller
_UNIT = 4096  # entries for which there is room at least, and by whose multiples it grows
_GUESS = 0.9  # of the smallest entries that were kept last time: what to look for first
_SHORT = 0.1  # share of the rows that may have fewer entries than that
MARK = {"BLOCK_N": 8, "BLOCK": 128, "num_warps": 4}


class TritonKernel(Kernel):
    """Exact float32 values and gradients at the entries.

    What it remembers from one batch to the next, how many entries there were and how large they had to be, saves
    a second look at the batch and changes no result. Where it does not run ahead, it waits for the number of entries.
    """

    runs_ahead: ClassVar[bool] = True

    def __init__(self) -> None:
        self._rooms: dict[Hashable, int] = {}
        self._guesses: dict[Hashable, Tensor] = {}
        self._encoder: Rounded | None = None
        self._missed: Bool[Tensor, ""] | None = None
        self._nothing: Tensor | None = None
        self._one: Tensor | None = None
        self._found: dict[Hashable, Int[Tensor, ""]] = {}

    @contextmanager
    def ahead(self, missed: Bool[Tensor, ""]) -> Iterator[dict[Hashable, Int[Tensor, ""]]]:
        self._missed, self._found = missed, {}
        try:
            yield self._found
        finally:
            self._missed = None

    @property
    def missed(self) -> Bool[Tensor, ""] | None:
        return self._missed

    def learn(self, found: Mapping[Hashable, int]) -> None:
        for key, number in found.items():
            self._make_room(key, number)

    def _make_room(self, key: Hashable, number: int) -> None:
        """Have room for some more entries than these the next time."""
        room, wanted = self._rooms.get(key, 0), int(_ROOM * number)
        if number > room or wanted > room or _ROOMY * number < room:
            self._rooms[key] = max(_UNIT, triton.cdiv(wanted, _UNIT) * _UNIT)

    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        screen = Screen(x, self._rounded(W), b)
        screen.mark(x.new_zeros(len(x)))
        found = self._entries(("positive", len(W)), screen, x, W, b)
        return self._finished(found.keep(found.values > 0))

    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        return self._top(("top", len(W), k), x, W, b, k, None)

    def top_k_among(
        self,
        x: Float[Tensor, "N D"],
        W: Float[Tensor, "F D"],
        b: Float[Tensor, " F"],
        k: int,
        among: Bool[Tensor, " F"],
    ) -> Codes:
        return self._top(("among", len(W), k), x, W, b, k, among)

    def _top(
        self,
        key: Hashable,
        x: Float[Tensor, "N D"],
        W: Float[Tensor, "F D"],
        b: Float[Tensor, " F"],
        k: int,
        among: Bool[Tensor, " F"] | None,
    ) -> Codes:
        """Every row is looked at once, for entries as large as those of the last batch; then again those rows that have
        fewer than k such."""
        screen = Screen(x, self._rounded(W), b, among)
        self._mark(key, screen, x, lambda sure: sure < k, lambda limits: screen.lower_rows(limits, k))
        found = self._entries(key, screen, x, W, b)
        chosen, smallest = torch.zeros_like(found.values, dtype=torch.bool), x.new_empty(len(x))
        programs = triton.cdiv(len(x), MARK["BLOCK_N"])
        select.mark_largest[programs,](found.starts, found.values, k, chosen, smallest, len(x), **MARK)
        self._guesses[key] = _GUESS * smallest.sort().values[int(_SHORT * (len(x) - 1))]
        return self._finished(found.keep(chosen))

    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        key, screen, wanted = ("batch", len(W), k), Screen(x, self._rounded(W), b), len(x) * k
        self._mark(
            key,
            screen,
            x,
            lambda sure: (sure.sum() < wanted).expand(len(x)),
            lambda limits: screen.lower_all(limits, wanted),
        )
        found = self._entries(key, screen, x, W, b)
        values = found.values.masked_fill(~found.valid, -torch.inf)
        largest = values.topk(min(wanted, len(values)))
        chosen = torch.zeros_like(values, dtype=torch.bool).scatter_(0, largest.indices, True)
        kept = found.keep(chosen & (values > 0))
        self._guesses[key] = _GUESS * kept.smallest()
        return self._finished(kept)

    def _mark(
        self,
        key: Hashable,
        screen: Screen,
        x: Float[Tensor, "N D"],
        too_few: Callable[[Tensor], Tensor],
        lower: Callable[[Tensor], None],
    ) -> None:
        """Mark the entries that reach what was enough the last time, and if too few do those that do surely."""
        guess = self._guesses.get(key)
        limits, short = x.new_empty(len(x)), torch.ones(len(x), dtype=torch.bool, device=x.device)
        if guess is not None:
            limits.copy_(guess.expand(len(x)))
            screen.mark(limits, sure=True)
            short = too_few(screen.sure())
        screen.list_rows(short)
        lower(limits)
        screen.mark(limits)

    def _rounded(self, W: Float[Tensor, "F D"]) -> Rounded:
        """The encoder in bfloat16: as the last step of Adam has left it, if it is still the same."""
        if self._encoder is None or not self._encoder.is_of(W):
            self._encoder = Rounded.of(W)
        return self._encoder

    def _entries(
        self, key: Hashable, screen: Screen, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]
    ) -> PaddedCodes:
        """The marked entries with their exact values. Running ahead, those without room are left out and missed."""
        offsets = screen.number()
        if self._missed is None:
            self._make_room(key, int(offsets[-1]))
        else:
            self._found[key] = offsets[-1]
            self._missed.logical_or_(offsets[-1] > self._rooms.get(key, 0))
        starts, rows, columns = screen.places(offsets, self._rooms.get(key, 0))
        values = _products(rows, columns, x, W, b, starts[-1:])
        return PaddedCodes(starts, columns, values, len(W), rows)

    def _finished(self, codes: PaddedCodes) -> Codes:
        return codes if self._missed is not None else codes.closed()

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        return _residual(codes, values, W, None)[0]

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        return _products(codes.rows, codes.columns, y, W, None, codes.starts[-1:])

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
        kept = self._encoder if self._encoder is not None and self._encoder.is_of(parameter) else None
        rounded = (parameter, parameter) if kept is None else (kept.matrix, kept.norms)
        if self._nothing is None or self._nothing.device != parameter.device:
            self._nothing = torch.zeros((), dtype=torch.bool, device=parameter.device)
            self._one = torch.ones((), device=parameter.device)
        missed = self._nothing if self._missed is None else self._missed
        clip = self._one if step.clip is None else step.clip
        loops.adam[parameter.numel() // width,](
            *state, *rounded, missed.view(torch.uint8), clip, *step.numbers,
            UNIT_ROWS=unit_rows, ROUND=kept is not None, **of_row(width),
        )  # fmt: skip


def of_row(width: int) -> dict[str, int]:
    """How a program that holds whole rows of this width is compiled: with as many warps as keep them in registers."""
    block = triton.next_power_of_2(width)
    return {"D": width, "BLOCK_D": block, "num_warps": 16 if block > _WIDE else 4}


def of_products(width: int) -> dict[str, int]:
    """How `products` of rows of this width is compiled."""
    return {"D": width, "BLOCK_E": _ENTRIES, "BLOCK_D": min(_CHUNK, triton.next_power_of_2(width)), "num_warps": 4}


def _products(
    rows: Int[Tensor, " E"],
    columns: Int[Tensor, " E"],
    y: Float[Tensor, "N D"],
    W: Float[Tensor, "F D"],
    b: Float[Tensor, " F"] | None,
    number: Int[Tensor, " 1"],
) -> Float[Tensor, " E"]:
    """y[row] · W[column] + b[column] of as many entries; 0 of what is none."""
    out, width = y.new_empty(len(rows)), y.shape[1]
    if len(rows):
        programs, inputs = triton.cdiv(len(rows), _ENTRIES), (y.contiguous(), W.contiguous())
        bias = out if b is None else b.contiguous()
        sizes = of_products(width)
        loops.products[programs,](rows, columns, *inputs, bias, out, number, len(rows), BIASED=b is not None, **sizes)
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
