"""The sparse kernel for CPUs: one dense product finds the entries, everything after touches only those.

Where bfloat16 products are fast the dense one is in bfloat16 and merely screens: what it finds is computed
again in float32. Elsewhere it is float32 itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from sae_cli.kernels import loops
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.kernels.screening import Bfloat16Screen, Float32Screen, Screen
from sae_cli.tensor_types import Float, Tensor

_ROWS = 512  # of pre-activations in memory at a time


class SparseKernel(Kernel):
    """Exact float32 values and gradients at the entries.

    Args:
        screen: number format of the dense product that finds the entries.
    """

    def __init__(self, screen: torch.dtype = torch.float32) -> None:
        self._screen = Bfloat16Screen if screen is torch.bfloat16 else Float32Screen
        self._buffer = torch.empty(0, 0, dtype=screen)

    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        found, _ = self._select(x, W, b, 1, lambda maxima: maxima.new_zeros(len(maxima)))
        return found.keep(found.values > 0)

    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        # The k largest block maxima are k entries, so the k-th largest entry is no smaller.
        found, _ = self._select(x, W, b, k, lambda maxima: _kth_largest(maxima, k))
        chosen = torch.empty(len(found.columns), dtype=torch.bool)
        loops.mark_largest(found.starts.numpy(), found.values.numpy(), k, chosen.numpy())
        return found.keep(chosen)

    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        wanted, surplus = len(x) * k, 2

        def least(maxima: Tensor) -> Tensor:
            return _kth_largest(maxima.view(1, -1), surplus * k * len(maxima)).expand(len(maxima))

        while True:
            found, bound = self._select(x, W, b, k, least)
            if len(found.columns) >= wanted:
                largest = found.values.topk(wanted)
                if largest.values[-1] >= bound:
                    chosen = torch.zeros(len(found.columns), dtype=torch.bool)
                    chosen[largest.indices] = True
                    return found.keep(chosen & (found.values > 0))
            if bound <= 0:
                return found.keep(found.values > 0)
            surplus *= 4  # some part of the batch holds more than its share

    def _select(
        self,
        x: Float[Tensor, "N D"],
        W: Float[Tensor, "F D"],
        b: Float[Tensor, " F"],
        k: int,
        least: Callable[[Tensor], Tensor],
    ) -> tuple[Codes, float]:
        """Every positive entry of at least `least(block maxima)`, and the largest such limit."""
        if self._buffer.shape[1] != len(W):
            self._buffer = self._buffer.new_empty(_ROWS, len(W))
        screen: Screen = self._screen(W, b, self._buffer)
        width, parts, bound = screen.block_width(k), [], 0.0
        for part in x.split(_ROWS):
            screen.load(part, width)
            limits = least(screen.maxima())
            bound = max(bound, float(limits.max()))
            parts.append(screen.entries(limits))
        found = _join(parts)
        return (found if screen.exact else self._computed_again(found, x, W, b)), bound

    def _computed_again(self, found: Codes, x: Tensor, W: Tensor, b: Tensor) -> Codes:
        values = self.products(found, x, W).add_(b[found.indices])
        return Codes(found.starts, found.columns, values, found.n_features)

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        out = W.new_empty(codes.n_rows, W.shape[1])
        loops.decode(*_arrays(codes.starts, codes.columns, values, W, out))
        return out

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        out = W.new_empty(len(codes.columns))
        loops.products(*_arrays(codes.starts, codes.columns, y, W, out))
        return out

    def residual(
        self,
        codes: Codes,
        values: Float[Tensor, " E"],
        W: Float[Tensor, "F D"],
        target: Float[Tensor, "N D"],
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, " E"]]:
        error, out = torch.empty_like(target), torch.empty_like(values)
        loops.residual(*_arrays(codes.starts, codes.columns, values, W, target, error, out))
        return error, out

    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        loops.outer_sums(*codes.by_column, *_arrays(values, y, total))


def _kth_largest(values: Float[Tensor, "R B"], k: int) -> Float[Tensor, " R"]:
    """The k-th largest of each row; where there are fewer, no limit at all."""
    if values.shape[1] < k:
        return values.new_full((len(values),), -torch.inf)
    out = values.new_empty(len(values))
    loops.kth_largest(values.contiguous().numpy(), k, out.numpy())
    return out


def _join(parts: Sequence[Codes]) -> Codes:
    ends = np.cumsum([0, *(len(part.columns) for part in parts)])
    return Codes(
        torch.cat([parts[0].starts[:1], *(part.starts[1:] + int(end) for part, end in zip(parts, ends, strict=False))]),
        torch.cat([part.columns for part in parts]),
        torch.cat([part.values for part in parts]),
        parts[0].n_features,
    )


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.contiguous().numpy() for tensor in tensors]
