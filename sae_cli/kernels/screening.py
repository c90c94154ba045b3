"""Screens: pre-activations of some rows at a time, good enough to say which entries can matter.

A screen returns, for a float32 limit, every entry whose true value reaches it, and perhaps a few more. Positive
floating-point numbers are in the order of their bits, and negative ones are negative as integers too, so the loops
look at all of them as integers: comparing those takes fewer instructions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch

from sae_cli.kernels import loops
from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Float, Tensor

_BLOCK = 64  # neighboring features whose maximum is looked at first


class Screen(ABC):
    """The pre-activations x Wᵀ + b of one part of a batch after the other.

    Memory is kept from one batch to the next: asking the system for it anew would cost as much as using it.

    Attributes:
        dtype: number format of the pre-activations.
        exact: the values of the entries are those of float32.
        buffer: holds pre-activations until entries have been found; free to be used after that.
    """

    dtype: ClassVar[torch.dtype]
    exact: ClassVar[bool]

    W: Float[Tensor, "F D"]
    b: Float[Tensor, " F"]

    def __init__(self) -> None:
        self.buffer = torch.empty(0, 0, dtype=self.dtype)
        self._columns = np.empty((0, 0), np.int32)
        self._values = np.empty((0, 0))
        self._pre = np.empty((0, 0))
        self._maxima = np.empty((0, 0))

    def begin(self, W: Float[Tensor, "F D"], b: Float[Tensor, " F"], rows: int) -> None:
        """Look at these parameters from now on, at most `rows` rows at a time."""
        self.W, self.b = W, b
        if self.buffer.shape != (rows, len(W)):
            self.buffer = self.buffer.new_empty(rows, len(W))
            # As many entries as there can be: what is never written to takes no memory.
            self._columns = np.empty(self.buffer.shape, np.int32)
            self._values = np.empty(self.buffer.shape, np.int16 if self.dtype is torch.bfloat16 else np.int32)

    def positive(self, x: Float[Tensor, "R D"]) -> Codes:
        """Every entry of these rows that is positive."""
        counts = np.empty(len(x), np.int64)
        loops.copy_positive(self._products(x), _BLOCK, self._columns, self._values, counts)
        return self._found(counts)

    def top(self, x: Float[Tensor, "R D"], k: int) -> Codes:
        """Every entry that may be positive and among the k largest of its row."""
        counts, pre = np.empty(len(x), np.int64), self._products(x)
        loops.copy_top(pre, self._width_for(k), k, self._limit_table(), self._columns, self._values, counts)
        return self._found(counts)

    def load(self, x: Float[Tensor, "R D"], k: int) -> Float[Tensor, "R _"]:
        """Compute pre-activations for `above`; returns a lower bound of each block's true maximum."""
        self._width, self._pre = self._width_for(k), self._products(x)
        self._maxima = np.empty((len(x), -(-len(self.W) // self._width)), self._pre.dtype)
        loops.block_maxima(self._pre, self._width, self._maxima)
        return torch.from_numpy(self._lower_bounds(self._maxima))

    def above(self, least: float) -> Codes:
        """Of the loaded rows, every entry that is positive and whose true value is at least `least`."""
        (limit,) = self._limits(np.full(1, least, np.float32))
        counts = np.empty(len(self._pre), np.int64)
        loops.copy_above(self._pre, self._width, self._maxima, limit, self._columns, self._values, counts)
        return self._found(counts)

    def _width_for(self, k: int) -> int:
        """A width of blocks of which there are several times k in a row."""
        width = _BLOCK
        while width > 8 and len(self.W) < 4 * k * width:
            width //= 2
        return width

    def _found(self, counts: np.ndarray) -> Codes:
        starts = np.concatenate([[0], np.cumsum(counts)])
        columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], self._values.dtype)
        loops.close_up(self._columns, self._values, starts, columns, values)
        values = torch.from_numpy(values).view(self.dtype).float()
        return Codes(torch.from_numpy(starts), torch.from_numpy(columns), values, len(self.W))

    @abstractmethod
    def _products(self, x: Float[Tensor, "R D"]) -> np.ndarray:
        """The pre-activations, as integers."""

    @abstractmethod
    def _lower_bounds(self, values: np.ndarray) -> np.ndarray:
        """What the true values are no less than, in float32."""

    @abstractmethod
    def _limits(self, least: np.ndarray) -> np.ndarray:
        """What values are strictly above if they are positive and their true value is at least this."""

    @abstractmethod
    def _limit_table(self) -> np.ndarray:
        """For each value that entries may have, the limit of what may be no smaller; empty for the value itself."""


class Float32Screen(Screen):
    """Float32 throughout."""

    dtype = torch.float32
    exact = True

    def _products(self, x: Float[Tensor, "R D"]) -> np.ndarray:
        return torch.addmm(self.b, x, self.W.T, out=self.buffer[: len(x)]).view(torch.int32).numpy()

    def _lower_bounds(self, values: np.ndarray) -> np.ndarray:
        return values.view(np.float32)

    def _limits(self, least: np.ndarray) -> np.ndarray:
        return np.maximum(np.nextafter(least, np.float32(-np.inf)), np.float32(0)).view(np.int32)

    def _limit_table(self) -> np.ndarray:
        return np.empty(0, np.int32)


# Rounding to bfloat16 moves a number by at most 2⁻⁹ of it, a product of two by 2⁻⁹·√(2/3) of it on average.
_ROUNDING = 2**-9
BFLOAT16_ERROR = 8 * _ROUNDING * (2 / 3) ** 0.5
"""Eight standard errors of a product of two vectors whose ‖·‖₄ is 1."""
_INFINITY = 0x7F80  # as bits


class Bfloat16Screen(Screen):
    """Products of numbers rounded to bfloat16, shifted upwards by more than rounding can lower them.

    The error of a pre-activation is a sum of D independent roundings, with a standard deviation of at most
    2⁻⁹·√(2/3)·‖x‖₄‖w‖₄; the shift is 8 of them for the largest x of the part and the largest w.
    """

    dtype = torch.bfloat16
    exact = False
    shifts: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._W_bits = np.empty((0, 0), np.uint16)
        self._shift = 0.0

    def begin(self, W: Float[Tensor, "F D"], b: Float[Tensor, " F"], rows: int) -> None:
        super().begin(W, b, rows)
        if self._W_bits.shape != W.shape:
            self._W_bits = np.empty(W.shape, np.uint16)
        self._W16, self._largest_row = _rounded(W, self._W_bits)

    def _lower_bounds(self, values: np.ndarray) -> np.ndarray:
        exact = (values.astype(np.int32) << 16).view(np.float32)
        return exact * np.float32(1 - 2 * _ROUNDING) - np.float32(2 * self._shift)

    def _products(self, x: Float[Tensor, "R D"]) -> np.ndarray:
        raised, (rounded, largest) = self.b.bfloat16(), _rounded(x, np.empty(x.shape, np.uint16))
        if self.shifts:
            self._shift = BFLOAT16_ERROR * largest * self._largest_row
            raised = (self.b + self._shift + 2 * _ROUNDING * self.b.abs()).bfloat16()
        pre = torch.addmm(raised, rounded, self._W16.T, out=self.buffer[: len(x)])
        return pre.view(torch.int16).numpy()

    def _limits(self, least: np.ndarray) -> np.ndarray:
        truncated = (np.maximum(least * np.float32(1 - 2 * _ROUNDING), 0).view(np.int32) >> 16).astype(np.int16)
        return np.maximum(truncated - np.int16(1), np.int16(0))

    def _limit_table(self) -> np.ndarray:
        table = np.zeros(2**15, np.int16)  # none at all for what is not a number
        table[: _INFINITY + 1] = self._limits(self._lower_bounds(np.arange(_INFINITY + 1).astype(np.int16)))
        return table


def _rounded(rows: Float[Tensor, "R D"], bits: np.ndarray) -> tuple[Tensor, float]:
    """The rows in bfloat16, kept in `bits`, and the largest of their ‖·‖₄."""
    fourth_powers = np.empty(len(rows), np.float32)
    loops.round_to_bfloat16(rows.contiguous().numpy(), bits, fourth_powers)
    return torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16), float(fourth_powers.max()) ** 0.25
