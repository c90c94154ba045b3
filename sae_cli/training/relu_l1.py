"""The loss of a ReLU dictionary and its gradients, written out.

    loss = mean over tokens of ‖x - x̂‖² + l1 · Σᵢ fᵢ‖dᵢ‖        (sums over dimensions and features)

Written out rather than left to autograd because the intermediate [N, F] matrices are what costs:
here there are two of them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sae_cli.tensor_types import Bool, Float, Tensor


class Parameters(NamedTuple):
    """What is trained, or the gradients of it."""

    W_enc: Float[Tensor, "F D"]
    b_enc: Float[Tensor, " F"]
    W_dec: Float[Tensor, "F D"]
    b_dec: Float[Tensor, " D"]


class StepResult(NamedTuple):
    """Gradients of the mean loss, and sums over the batch that need no second pass.

    Attributes:
        gradients: one for each parameter.
        squared_error: Σ‖x - x̂‖².
        l1: Σ Σᵢ fᵢ‖dᵢ‖.
        l0: number of positive entries of f.
        fired: which features were positive on any token.
    """

    gradients: Parameters
    squared_error: float
    l1: float
    l0: int
    fired: Bool[Tensor, " F"]


def relu_l1_step(parameters: Parameters, x: Float[Tensor, "N D"], l1: float) -> StepResult:
    """The reference: dense float32 products."""
    W_enc, b_enc, W_dec, b_dec = parameters
    n = len(x)
    centred = x - b_dec
    f = (centred @ W_enc.T).add_(b_enc).relu_()
    norms = W_dec.norm(dim=1)
    error = (f @ W_dec).sub_(centred)  # x̂ - x

    d_output = error * (2 / n)
    d_f = torch.ops.aten.threshold_backward((d_output @ W_dec.T).add_(norms * (l1 / n)), f, 0)
    sum_f, d_b_enc = f.sum(dim=0), d_f.sum(dim=0)
    gradients = Parameters(
        W_enc=d_f.T @ centred,
        b_enc=d_b_enc,
        W_dec=(f.T @ d_output).add_(W_dec * (l1 / n * sum_f / norms.clamp_min(1e-12))[:, None]),
        b_dec=d_output.sum(dim=0) - d_b_enc @ W_enc,
    )
    return StepResult(
        gradients,
        squared_error=error.double().square_().sum().item(),
        l1=float(sum_f.double() @ norms.double()),
        l0=count_positive(f),
        fired=sum_f > 0,
    )


def count_positive(f: Float[Tensor, "N F"]) -> int:
    """Positive entries of non-negative features; each column's count is exact in float32."""
    return int(f.sign().sum(dim=0).double().sum())


def remove_radial_component(gradient: Float[Tensor, "F D"], rows: Float[Tensor, "F D"]) -> Float[Tensor, "F D"]:
    """The gradient on the sphere of unit rows: its component along each (unit) row is taken out."""
    return gradient - (gradient * rows).sum(dim=1, keepdim=True) * rows
