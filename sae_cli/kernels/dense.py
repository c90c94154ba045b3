"""The dense kernel for CPUs: matrix products in bfloat16 or float32, for batches in which many features are active.

Above some density, products that compute every entry take less time than loops over those that are needed.
"""

from __future__ import annotations

import torch

from sae_cli.kernels import loops
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.screening import Bfloat16Screen
from sae_cli.kernels.sparse import SparseKernel
from sae_cli.tensor_types import Float, Tensor


class Bfloat16Values(Bfloat16Screen):
    """Pre-activations that are taken as they are, in bfloat16."""

    exact = True
    shifts = False


class DenseKernel(SparseKernel):
    """Finds entries as the sparse kernel does; all other products are dense.

    Args:
        dtype: number format of the products; sums are in float32.
        sparse: a sparse kernel to share memory with.
    """

    def rows_at_once(self, n_features: int) -> int | None:
        return 512

    def __init__(self, dtype: torch.dtype, sparse: SparseKernel | None = None) -> None:
        super().__init__(dtype)
        if dtype is torch.bfloat16:
            self.screen = Bfloat16Values()
        elif sparse is not None:
            self.screen = sparse.screen
        self._dtype = dtype
        self._scratch = torch.empty(0, 0)

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        return (self._dense(codes, values) @ W.to(self._dtype)).float()

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        dense = self._scratch_of(codes)
        if self._dtype is torch.float32:
            torch.mm(y, W.T, out=dense)
        else:
            dense.copy_(y.to(self._dtype) @ W.to(self._dtype).T)
        out = W.new_empty(len(codes.columns))
        loops.gather(codes.starts.numpy(), codes.columns.numpy(), dense.numpy(), out.numpy())
        return out

    def residual(
        self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"], target: Float[Tensor, "N D"]
    ) -> tuple[Float[Tensor, "N D"], Float[Tensor, " E"]]:
        error = self.decode(codes, values, W).sub_(target)
        return error, self.products(codes, error, W)

    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        dense = self._dense(codes, values)
        if self._dtype is torch.float32:
            total.addmm_(dense.T, y)
        else:
            total.add_(dense.T @ y.to(self._dtype))

    def _dense(self, codes: Codes, values: Float[Tensor, " E"]) -> Tensor:
        dense = self._scratch_of(codes)
        loops.scatter(codes.starts.numpy(), codes.columns.numpy(), values.contiguous().numpy(), dense.numpy())
        return dense.to(self._dtype)

    def _scratch_of(self, codes: Codes) -> Float[Tensor, "N F"]:
        """A float32 matrix whose content is free to be overwritten."""
        buffer = self.screen.buffer
        if self._dtype is torch.float32 and codes.n_rows <= len(buffer) and codes.n_features == buffer.shape[1]:
            return buffer[: codes.n_rows]
        if self._scratch.shape[0] < codes.n_rows or self._scratch.shape[1] != codes.n_features:
            self._scratch = torch.empty(codes.n_rows, codes.n_features)
        return self._scratch[: codes.n_rows]
