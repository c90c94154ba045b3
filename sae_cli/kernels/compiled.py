"""The dense kernel for GPUs: bfloat16 matrix products with what surrounds them fused by torch.compile."""

from __future__ import annotations

from typing import ClassVar

import torch

from sae_cli.kernels.codes import Codes
from sae_cli.kernels.dense_codes import DenseCodes
from sae_cli.kernels.kernel import AdamState, AdamStep, Kernel
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.tensor_types import Bool, Float, Tensor

_AT_ONCE = 2**27  # numbers of a matrix [N, F]


class CompiledKernel(Kernel):
    """Holds [N, F] matrices of a part of a batch, and never a list of their entries; sums are in float32.

    Args:
        backend: of torch.compile.
        adam: a kernel that makes the optimizer's steps; None for the plain one.
    """

    runs_ahead: ClassVar[bool] = True

    def __init__(self, backend: str = "inductor", adam: Kernel | None = None) -> None:
        def compiled(function):
            return torch.compile(function, backend=backend, dynamic=True)

        self._pre = compiled(_pre)
        self._decode = compiled(_decode)
        self._products = compiled(_products)
        self._add_outer_sums = compiled(_add_outer_sums)
        self._adam: Kernel = adam or ReferenceKernel()

    def rows_at_once(self, n_features: int) -> int | None:
        return max(1, min(4096, _AT_ONCE // n_features))

    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        pre = self._pre(x, W, b)
        return DenseCodes.of(pre, pre > 0)

    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        return _largest_of_rows(self._pre(x, W, b), k)

    def top_k_among(
        self,
        x: Float[Tensor, "N D"],
        W: Float[Tensor, "F D"],
        b: Float[Tensor, " F"],
        k: int,
        among: Bool[Tensor, " F"],
    ) -> Codes:
        return _largest_of_rows(self._pre(x, W, b).masked_fill(~among, -torch.inf), min(k, len(W)))

    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        pre = self._pre(x, W, b)
        largest = pre.view(-1).topk(len(x) * k).indices
        chosen = torch.zeros_like(pre, dtype=torch.bool).view(-1).scatter_(0, largest, True).view_as(pre)
        return DenseCodes.of(pre, chosen & (pre > 0))

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        return self._decode(codes.to_dense(values), W)

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        return codes.from_dense(self._products(y, W))

    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        self._add_outer_sums(codes.to_dense(values), y, total)

    def adam(self, state: AdamState, step: AdamStep, unit_rows: bool) -> None:
        self._adam.adam(state, step, unit_rows)


def _largest_of_rows(pre: Float[Tensor, "N F"], k: int) -> Codes:
    chosen = torch.zeros_like(pre, dtype=torch.bool).scatter_(1, pre.topk(k, dim=1).indices, True)
    return DenseCodes.of(pre, chosen & (pre > 0))


def _pre(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return (x.bfloat16() @ W.bfloat16().T).float() + b


def _decode(dense: Tensor, W: Tensor) -> Tensor:
    return (dense.bfloat16() @ W.bfloat16()).float()


def _products(y: Tensor, W: Tensor) -> Tensor:
    return (y.bfloat16() @ W.bfloat16().T).float()


def _add_outer_sums(dense: Tensor, y: Tensor, total: Tensor) -> None:
    total += (dense.bfloat16().T @ y.bfloat16()).float()
