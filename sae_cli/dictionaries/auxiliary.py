"""The auxiliary loss that revives dead features (Gao et al. 2024, appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sae_cli.dictionaries.objective import Objective, StepContext, gradient, squared_sum
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Tensor


@dataclass(frozen=True)
class AuxiliaryLoss:
    """coefficient · min(1, dead / k) · ‖(y - ŷ) - W_decᵀ z‖², z the k largest dead pre-activations of each token.

    What the dictionary leaves over, y - ŷ, is a target and gets no gradient.

    Attributes:
        coefficient: 1/32 in the paper.
        k: about half the width of what is written.
    """

    coefficient: float
    k: int

    def accumulate(
        self,
        objective: Objective,
        centered: Float[Tensor, "N D"],
        error: Float[Tensor, "N E"],
        kernel: Kernel,
        context: StepContext,
    ) -> Float[Tensor, ""]:
        """Add its gradients, given x - center and ŷ - y; returns the sum of the loss over tokens."""
        if self.coefficient == 0 or not context.may_be_dead:
            return error.new_zeros((), dtype=torch.float64)
        if kernel.runs_ahead:
            return self._accumulate_marked(objective, centered, error, kernel, context)
        dead = context.dead.nonzero().squeeze(1)
        if len(dead) == 0:
            return error.new_zeros((), dtype=torch.float64)
        k = min(self.k, len(dead))
        weight = self.coefficient * k / self.k
        W_enc, W_dec = objective.W_enc[dead], objective.W_dec[dead]
        codes = kernel.top_k(centered, W_enc, objective.b_enc[dead], k)
        missing, along = kernel.residual(codes, codes.values, W_dec, -error)

        scale = 2 * weight / context.batch_size
        d_pre = along.mul_(scale)
        d_W_enc, d_W_dec, d_b_enc = torch.zeros_like(W_enc), torch.zeros_like(W_dec), codes.column_sums(d_pre)
        kernel.add_outer_sums(codes, d_pre, centered, d_W_enc)
        kernel.add_outer_sums(codes, codes.values * scale, missing, d_W_dec)
        gradient(objective.W_enc).index_add_(0, dead, d_W_enc)
        gradient(objective.W_dec).index_add_(0, dead, d_W_dec)
        gradient(objective.b_enc).index_add_(0, dead, d_b_enc)
        if objective.b_pre is None:
            gradient(objective.b_dec).sub_(d_b_enc @ W_enc)
        return weight * squared_sum(missing)

    def _accumulate_marked(
        self,
        objective: Objective,
        centered: Float[Tensor, "N D"],
        error: Float[Tensor, "N E"],
        kernel: Kernel,
        context: StepContext,
    ) -> Float[Tensor, ""]:
        """The same where the host is not to wait until it knows how many features are dead, perhaps none."""
        codes = kernel.top_k_among(centered, objective.W_enc, objective.b_enc, self.k, context.dead)
        missing, along = kernel.residual(codes, codes.values, objective.W_dec, -error)
        weight = context.dead.sum().clamp_max(self.k).double() * (self.coefficient / self.k)
        scale = weight * (2 / context.batch_size)
        kernel.add_outer_sums(codes, along.mul_(scale), centered, gradient(objective.W_enc))
        kernel.add_outer_sums(codes, codes.values * scale, missing, gradient(objective.W_dec))
        d_b_enc = codes.column_sums(along)
        gradient(objective.b_enc).add_(d_b_enc)
        objective.add_center_gradient(d_b_enc)
        return weight * squared_sum(missing)
