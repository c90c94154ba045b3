"""What a dictionary starts from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from sae_cli.config.sae import BiasInit
from sae_cli.dictionaries.objective import Start
from sae_cli.tensor_types import Float, Tensor
from sae_cli.training.recipe import Recipe

_ROWS = 2**14
"""Of a window that are held in float64 at once."""


def activation_scale(x: Float[Tensor, "N D"]) -> float:
    """The factor that brings the mean norm of activations to √d."""
    return float(x.shape[1] ** 0.5 / _of_rows(x, lambda part: part.norm(dim=1)).mean())


def _of_rows(x: Float[Tensor, "N D"], number: Callable[[Tensor], Tensor]) -> Float[Tensor, " N"]:
    """A number of each row, computed in float64 of some rows at a time."""
    return torch.cat([number(part.double()) for part in x.split(_ROWS)])


def initial_decoder_bias(x: Float[Tensor, "N D"], init: BiasInit) -> Float[Tensor, " D"]:
    """`b_dec` before the first step."""
    match init:
        case BiasInit.mean:
            return x.mean(dim=0, dtype=torch.float64).float()
        case BiasInit.geometric_median:
            return geometric_median(x)
        case BiasInit.zero:
            return torch.zeros(x.shape[1])


def geometric_median(x: Float[Tensor, "N D"], iterations: int = 100, tolerance: float = 1e-6) -> Float[Tensor, " D"]:
    """The point of least summed distance, by Weiszfeld's iteration.

    Stops when a step is shorter than `tolerance` times the mean distance.
    """
    median = x.mean(dim=0, dtype=torch.float64)
    for _ in range(iterations):
        center = median
        distance = _of_rows(x, lambda part, center=center: (part - center).norm(dim=1)).clamp_min(1e-12)
        weights = 1 / distance
        parts = zip(weights.split(_ROWS), x.split(_ROWS), strict=True)
        moved = torch.stack([weight @ part.double() for weight, part in parts]).sum(dim=0) / weights.sum()
        step, median = (moved - median).norm(), moved
        if step < tolerance * distance.mean():
            break
    return median.float()


def random_directions(n_features: int, width: int, seed: int) -> Float[Tensor, "F D"]:
    """Isotropic random unit rows."""
    rows = torch.randn(n_features, width, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


class Beginning(NamedTuple):
    """What a sample of activations says of a training before its first step.

    Attributes:
        read_scale, scale: what brings what is read, and what is to be written, to the units of training.
        variance: the mean of ‖y - ȳ‖² in those.
        start: what the dictionary begins with.
    """

    read_scale: float
    scale: float
    variance: float
    start: Start


def beginning(recipe: Recipe, sample: Float[Tensor, "N D"], written: Float[Tensor, "N E"] | None) -> Beginning:
    """Of a recipe and activations; `written` is what is to be written for them, None for an autoencoder."""
    targets = sample if written is None else written
    read_scale = activation_scale(sample) if recipe.scale_activations else 1.0
    scale = activation_scale(targets) if recipe.scale_activations and written is not None else read_scale
    scaled = targets * scale
    mean = scaled.mean(dim=0).double()
    variance = float(_of_rows(scaled, lambda part: (part - mean).square().sum(dim=1)).mean())
    b_dec = initial_decoder_bias(scaled, recipe.b_dec_init)
    rows = random_directions(recipe.dict_size, targets.shape[1], recipe.seed)
    start = Start(rows, rows, b_dec)
    if written is not None:
        b_pre = initial_decoder_bias(sample * read_scale, recipe.b_dec_init)
        start = Start(random_directions(recipe.dict_size, sample.shape[1], recipe.seed), rows, b_dec, b_pre)
    return Beginning(read_scale, scale, variance, start)
