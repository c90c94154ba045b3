"""What a dictionary starts from."""

from __future__ import annotations

import torch

from sae_cli.config.sae import BiasInit
from sae_cli.tensor_types import Float, Tensor


def activation_scale(x: Float[Tensor, "N D"]) -> float:
    """The factor that brings the mean norm of activations to √d."""
    return float(x.shape[1] ** 0.5 / x.double().norm(dim=1).mean())


def initial_decoder_bias(x: Float[Tensor, "N D"], init: BiasInit) -> Float[Tensor, " D"]:
    """`b_dec` before the first step."""
    match init:
        case BiasInit.mean:
            return x.double().mean(dim=0).float()
        case BiasInit.geometric_median:
            return geometric_median(x)
        case BiasInit.zero:
            return torch.zeros(x.shape[1])


def geometric_median(x: Float[Tensor, "N D"], iterations: int = 100, tolerance: float = 1e-6) -> Float[Tensor, " D"]:
    """The point of least summed distance, by Weiszfeld's iteration.

    Stops when a step is shorter than `tolerance` times the mean distance.
    """
    points = x.double()
    median = points.mean(dim=0)
    for _ in range(iterations):
        distance = (points - median).norm(dim=1).clamp_min(1e-12)
        weights = 1 / distance
        moved = (weights[:, None] * points).sum(dim=0) / weights.sum()
        step, median = (moved - median).norm(), moved
        if step < tolerance * distance.mean():
            break
    return median.float()


def random_directions(n_features: int, width: int, seed: int) -> Float[Tensor, "F D"]:
    """Isotropic random unit rows."""
    rows = torch.randn(n_features, width, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)
