"""Screens: pre-activations of some rows at a time, good enough to say which entries can matter.

A screen returns, for a float32 limit, every entry whose true value reaches it, and perhaps a few more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
import torch

from sae_cli.kernels import loops
from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Float, Tensor

_BLOCK = 64  # neighbouring features whose maximum is looked at first


class Screen(ABC):
    """The pre-activations x Wᵀ + b of one part of a batch after the other.

    Attributes:
        exact: the values of the entries are those of float32.
    """

    exact: ClassVar[bool]

    def __init__(self, W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> None:
        self.W, self.b = W, b
        self._pre = np.empty((0, 0))
        self._maxima = np.empty((0, 0))

    def block_width(self, k: int) -> int:
        """A width of which there are several times k in a row."""
        width = _BLOCK
        while width > 8 and len(self.W) < 4 * k * width:
            width //= 2
        return width

    def load(self, x: Float[Tensor, "R D"], width: int = _BLOCK) -> None:
        """Compute the pre-activations of these rows; they stay until the next call."""
        self._width = width
        self._pre = self._products(x)
        self._maxima = np.empty((len(x), -(-self._pre.shape[1] // width)), self._pre.dtype)
        loops.block_maxima(self._pre, width, self._maxima)

    def entries(self, least: Float[Tensor, " R"]) -> Codes:
        """Every entry that is positive and whose true value is at least that of its row."""
        limits = self._limits(least.numpy())
        counts = np.empty(len(limits), np.int64)
        loops.count_above(self._pre, self._width, self._maxima, limits, counts)
        starts = np.concatenate([[0], np.cumsum(counts)])
        columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], self._pre.dtype)
        loops.copy_above(self._pre, self._width, self._maxima, limits, starts, columns, values)
        return Codes(torch.from_numpy(starts), torch.from_numpy(columns), self._as_float(values), self._pre.shape[1])

    @abstractmethod
    def maxima(self) -> Float[Tensor, "R _"]:
        """A lower bound of the true maximum of each block."""

    @abstractmethod
    def _products(self, x: Float[Tensor, "R D"]) -> np.ndarray: ...

    @abstractmethod
    def _limits(self, least: np.ndarray) -> np.ndarray:
        """What entries are strictly above if they are positive and their true value is at least this."""

    @abstractmethod
    def _as_float(self, values: np.ndarray) -> Tensor: ...


class Float32Screen(Screen):
    """Float32 throughout."""

    exact = True

    def __init__(self, W: Float[Tensor, "F D"], b: Float[Tensor, " F"], buffer: Float[Tensor, "R F"]) -> None:
        super().__init__(W, b)
        self._buffer = buffer

    def maxima(self) -> Float[Tensor, "R _"]:
        return torch.from_numpy(self._maxima)

    def _products(self, x: Float[Tensor, "R D"]) -> np.ndarray:
        return torch.addmm(self.b, x, self.W.T, out=self._buffer[: len(x)]).numpy()

    def _limits(self, least: np.ndarray) -> np.ndarray:
        return np.maximum(np.nextafter(least, np.float32(-np.inf)), np.float32(0))

    def _as_float(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values)


# Rounding to bfloat16 moves a number by at most 2⁻⁹ of it, a product of two by 2⁻⁹·√(2/3) of it on average.
_ROUNDING = 2**-9
_STANDARD_ERROR = _ROUNDING * (2 / 3) ** 0.5
_STANDARD_ERRORS = 8


class Bfloat16Screen(Screen):
    """Products of numbers rounded to bfloat16, shifted upwards by more than rounding can lower them.

    The error of a pre-activation is a sum of D independent roundings, with a standard deviation of at most
    2⁻⁹·√(2/3)·‖x‖₄‖w‖₄; the shift is 8 of them for the largest x of the part and the largest w. Positive
    bfloat16 numbers are in the order of their bits, so the loops look at them as integers.
    """

    exact = False
    shifts: ClassVar[bool] = True

    def __init__(self, W: Float[Tensor, "F D"], b: Float[Tensor, " F"], buffer: Tensor) -> None:
        super().__init__(W, b)
        self._W16 = W.bfloat16()
        self._largest_row = float(_fourth_norms(W).max())
        self._buffer = buffer
        self._shift = 0.0

    def maxima(self) -> Float[Tensor, "R _"]:
        return self._as_float(self._maxima) * (1 - 2 * _ROUNDING) - 2 * self._shift

    def _products(self, x: Float[Tensor, "R D"]) -> np.ndarray:
        raised = self.b.bfloat16()
        if self.shifts:
            self._shift = _STANDARD_ERRORS * _STANDARD_ERROR * float(_fourth_norms(x).max()) * self._largest_row
            raised = (self.b + self._shift + 2 * _ROUNDING * self.b.abs()).bfloat16()
        pre = torch.addmm(raised, x.bfloat16(), self._W16.T, out=self._buffer[: len(x)])
        return pre.view(torch.int16).numpy()

    def _limits(self, least: np.ndarray) -> np.ndarray:
        truncated = (np.maximum(least * np.float32(1 - 2 * _ROUNDING), 0).view(np.int32) >> 16).astype(np.int16)
        return np.maximum(truncated - np.int16(1), np.int16(0))

    def _as_float(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).view(torch.bfloat16).float()


def _fourth_norms(rows: Float[Tensor, "R D"]) -> Float[Tensor, " R"]:
    return torch.linalg.vector_norm(rows, ord=4, dim=1)
