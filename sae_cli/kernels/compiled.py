"""The dense kernel for GPUs: bfloat16 matrix products with what surrounds them fused by torch.compile."""

from __future__ import annotations

import torch

from sae_cli.kernels.codes import Codes
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.tensor_types import Float, Tensor


class CompiledKernel(ReferenceKernel):
    """Holds [N, F] matrices of a part of a batch; sums are in float32.

    Args:
        backend: of torch.compile.
    """

    def rows_at_once(self, n_features: int) -> int | None:
        return max(1, min(4096, 2**27 // n_features))

    def __init__(self, backend: str = "inductor") -> None:
        def compiled(function):
            return torch.compile(function, backend=backend, dynamic=True)

        self._pre = compiled(_pre)
        self._decode = compiled(_decode)
        self._products = compiled(_products)
        self._add_outer_sums = compiled(_add_outer_sums)

    def pre_activations(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Tensor:
        return self._pre(x, W, b)

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        return self._decode(codes.to_dense(values), W)

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        return self._products(y, W, codes.rows, codes.indices)

    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        self._add_outer_sums(codes.to_dense(values), y, total)


def _pre(x: Tensor, W: Tensor, b: Tensor) -> Tensor:
    return (x.bfloat16() @ W.bfloat16().T).float() + b


def _decode(dense: Tensor, W: Tensor) -> Tensor:
    return (dense.bfloat16() @ W.bfloat16()).float()


def _products(y: Tensor, W: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return (y.bfloat16() @ W.bfloat16().T)[rows, columns].float()


def _add_outer_sums(dense: Tensor, y: Tensor, total: Tensor) -> None:
    total += (dense.bfloat16().T @ y.bfloat16()).float()
