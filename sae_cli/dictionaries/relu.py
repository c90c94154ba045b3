"""The ReLU dictionary, trained with an L1 penalty (Bricken et al. 2023)."""

from __future__ import annotations

from functools import cached_property

from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.objective import BatchSums, Objective, StepContext, gradient, squared_sum
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.kernels.sparse import SparseKernel
from sae_cli.tensor_types import Float, Tensor


class ReluDictionary(Dictionary):
    """f = ReLU(W_enc (x - b_dec) + b_enc),  x̂ = W_decᵀ f + b_dec."""

    architecture = "relu"

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        return (self.centered(x) @ self.W_enc.T + self.b_enc).relu()

    def codes(self, x: Float[Tensor, "N D"]) -> Codes:
        if x.is_cuda:
            return super().codes(x)
        return self._kernel.positive(self.centered(x), self.W_enc, self.b_enc)

    @cached_property
    def _kernel(self) -> SparseKernel:
        return SparseKernel()


class ReluObjective(Objective):
    """‖x - x̂‖² + l1 · Σᵢ fᵢ‖dᵢ‖.

    Args:
        l1: coefficient of the penalty.
    """

    dictionary = ReluDictionary

    def __init__(
        self,
        W_enc: Float[Tensor, "F D"],
        W_dec: Float[Tensor, "F E"],
        b_dec: Float[Tensor, " E"],
        unit_rows: bool,
        l1: float,
    ) -> None:
        super().__init__(W_enc, W_dec, b_dec, unit_rows)
        self.l1 = l1

    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        n, l1 = context.batch_size, self.l1 * context.sparsity
        (centered, target), norms = self.centered(x, y), self.decoder_norms()
        codes = kernel.positive(centered, self.W_enc, self.b_enc)
        f = codes.values
        error, along = kernel.residual(codes, f, self.W_dec, target)

        d_f = along.mul_(2).add_(l1 * codes.of_features(norms)).div_(n)
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=2 / n)
        self.add_encoder_gradients(codes, d_f, centered, kernel)
        kernel.add_outer_sums(codes, f * (2 / n), error, gradient(self.W_dec))
        sum_f = codes.column_sums(f)
        if not self.unit_rows:  # on the sphere this part is radial
            gradient(self.W_dec).addcmul_(self.W_dec, (sum_f / norms.clamp_min(1e-12))[:, None], value=l1 / n)
        return BatchSums(
            squared_error=squared_sum(error),
            penalty=l1 * (sum_f.double() @ norms.double()),
            l0=codes.number,
            count=codes.counts(),
        )
