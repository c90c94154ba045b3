"""The sparse kernel for CPUs: one dense product finds the entries, everything after touches only those.

Where bfloat16 products are fast the dense one is in bfloat16 and merely screens: what it finds is computed
again in float32. Elsewhere it is float32 itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sae_cli.kernels import loops
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import AdamState, AdamStep, Kernel
from sae_cli.kernels.screening import Bfloat16Screen, Float32Screen, Screen
from sae_cli.tensor_types import Float, Tensor

_ROWS = 512


class SparseKernel(Kernel):
    """Exact float32 values and gradients at the entries.

    Args:
        screen: number format of the dense product that finds the entries.

    Attributes:
        screen: that product, with its memory.
    """

    def __init__(self, screen: torch.dtype = torch.float32) -> None:
        self.screen: Screen = Bfloat16Screen() if screen is torch.bfloat16 else Float32Screen()

    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        self.screen.begin(W, b, _ROWS)
        found = self._join([self.screen.positive(part) for part in x.split(_ROWS)], x)
        return found if self.screen.exact else found.keep(found.values > 0)

    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        self.screen.begin(W, b, _ROWS)
        found = self._join([self.screen.top(part, k) for part in x.split(_ROWS)], x)
        chosen = torch.empty(len(found.columns), dtype=torch.bool)
        loops.mark_largest(found.starts.numpy(), found.values.numpy(), k, chosen.numpy())
        return found.keep(chosen)

    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        self.screen.begin(W, b, _ROWS)
        wanted, surplus = len(x) * k, 2
        while True:
            found, bound = self._largest(x, k, surplus)
            if len(found.columns) >= wanted:
                largest = found.values.topk(wanted)
                if largest.values[-1] >= bound:
                    chosen = torch.zeros(len(found.columns), dtype=torch.bool)
                    chosen[largest.indices] = True
                    return found.keep(chosen & (found.values > 0))
            if bound <= 0:
                return found.keep(found.values > 0)
            surplus *= 4  # some part of the batch holds more than its share

    def _largest(self, x: Float[Tensor, "N D"], k: int, surplus: int) -> tuple[Codes, float]:
        """In each part of the batch, at least `surplus` times its share of N·k entries; every entry left out is
        below the limit that is returned."""
        parts, bound = [], 0.0
        for part in x.split(_ROWS):
            maxima = self.screen.load(part, k).flatten()
            share = surplus * k * len(part)
            # The largest block maxima are as many entries, so as many entries are no smaller than the least of them.
            least = float(maxima.topk(share).values[-1]) if share <= len(maxima) else 0.0
            bound = max(bound, least)
            parts.append(self.screen.above(least))
        return self._join(parts, x), bound

    def _join(self, parts: Sequence[Codes], x: Float[Tensor, "N D"]) -> Codes:
        """The parts as one, with exact values."""
        found = Codes.join(parts)
        if self.screen.exact:
            return found
        W, values = self.screen.W, x.new_empty(len(found.columns))
        loops.products_by_column(*_arrays(*found.by_column, x, W, values))
        return Codes(found.starts, found.columns, values.add_(self.screen.b[found.indices]), found.n_features)

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
        loops.outer_sums(*_arrays(*codes.by_column, values, y, total))

    def adam(self, state: AdamState, step: AdamStep, unit_rows: bool) -> None:
        w, g, m, v = (each.view(-1, each.shape[-1]).numpy() for each in state)
        scale, rate, b1, new1, b2, new2, root, epsilon = map(np.float32, step.numbers)
        loops.adam(w, g, m, v, unit_rows, scale, rate, b1, new1, b2, new2, root, epsilon)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.contiguous().numpy() for tensor in tensors]
