"""The plain kernel: dense float32 products, on any device. What every other kernel is compared with."""

from __future__ import annotations

import torch

from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import EPSILON, AdamState, AdamStep, Kernel
from sae_cli.tensor_types import Bool, Float, Tensor


class ReferenceKernel(Kernel):
    """Holds whole [N, F] matrices."""

    def pre_activations(
        self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]
    ) -> Float[Tensor, "N F"]:
        """x Wᵀ + b."""
        return torch.addmm(b, x, W.T)

    def positive(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"]) -> Codes:
        pre = self.pre_activations(x, W, b)
        return _entries(pre, pre > 0)

    def top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        pre = self.pre_activations(x, W, b)
        chosen = torch.zeros_like(pre, dtype=torch.bool).scatter_(1, pre.topk(k, dim=1).indices, True)
        return _entries(pre, chosen & (pre > 0))

    def batch_top_k(self, x: Float[Tensor, "N D"], W: Float[Tensor, "F D"], b: Float[Tensor, " F"], k: int) -> Codes:
        pre = self.pre_activations(x, W, b)
        chosen = torch.zeros_like(pre, dtype=torch.bool)
        chosen.view(-1)[pre.view(-1).topk(len(x) * k).indices] = True
        return _entries(pre, chosen & (pre > 0))

    def decode(self, codes: Codes, values: Float[Tensor, " E"], W: Float[Tensor, "F D"]) -> Float[Tensor, "N D"]:
        return codes.to_dense(values) @ W

    def products(self, codes: Codes, y: Float[Tensor, "N D"], W: Float[Tensor, "F D"]) -> Float[Tensor, " E"]:
        return (y @ W.T)[codes.rows, codes.indices]

    def add_outer_sums(
        self, codes: Codes, values: Float[Tensor, " E"], y: Float[Tensor, "N D"], total: Float[Tensor, "F D"]
    ) -> None:
        total.addmm_(codes.to_dense(values).T, y)

    def adam(self, state: AdamState, step: AdamStep, unit_rows: bool) -> None:
        parameter, gradient, mean, square = state
        (beta1, beta2), (correction1, correction2) = step.betas, step.corrections
        gradient.mul_(step.gradient_scale)
        if step.clip is not None:
            gradient.mul_(step.clip)
        if unit_rows:
            gradient.sub_(parameter * torch.linalg.vecdot(gradient, parameter)[:, None])
        mean.lerp_(gradient, 1 - beta1)
        square.lerp_(gradient.square(), 1 - beta2)
        parameter.sub_(step.lr / correction1 * mean / ((square / correction2).sqrt() + EPSILON))
        if unit_rows:
            parameter.div_(parameter.norm(dim=1, keepdim=True))
        gradient.zero_()


def _entries(pre: Float[Tensor, "N F"], chosen: Bool[Tensor, "N F"]) -> Codes:
    rows, columns = chosen.nonzero(as_tuple=True)
    starts = torch.zeros(len(pre) + 1, dtype=torch.int64, device=pre.device)
    starts[1:] = torch.bincount(rows, minlength=len(pre)).cumsum(0)
    return Codes(starts, columns.int(), pre[rows, columns], pre.shape[1])
