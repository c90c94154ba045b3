"""Histograms of each feature: of its activations, from the counts of a pass over text, and of its logit weights."""

from __future__ import annotations

import numpy as np
import torch

from sae_cli.kernels.context_loops import MANTISSA_BITS
from sae_cli.tensor_types import Float, Tensor

BARS = 64
"""Of a histogram of activations, of equal width, from zero to above the largest one, which is in the upper half."""

LOGIT_BARS = 50
"""Of a histogram of logit weights, from the smallest to the largest."""

_OF_MANTISSA = 2**MANTISSA_BITS
_EXPONENT_BIAS = 127
_FEATURES_AT_ONCE = 2048
_WEIGHTS_AT_ONCE = 2**24


def activation_histogram(counts: np.ndarray, last: np.ndarray, bands: int) -> dict[str, Tensor]:
    """What is kept of counts in bins of equal relative width (a histogram of `kernels.context_loops`).

    The bars are as wide as the bins of the factor of two that the largest activation is in, so that each of the bins is
    in one bar and the counts of the bars are exact.

    Args:
        counts: of the bins [C, bins].
        last: number of the last bin, -1 without any activation [C].
        bands: quantile bands.

    Returns:
        `activation_count` int64 [C, BARS]; `activation_step` float32 [C], the width of a bar, 0 without activations;
        `band_edge` float32 [C, bands + 1]: the bands' borders, each below the activation that it is for by less than
        1/32 of that, and at last the upper end of the last bin.
    """
    exponent = np.maximum(last, 0) >> MANTISSA_BITS
    step = np.where(last < 0, 0.0, np.ldexp(1.0, exponent - _EXPONENT_BIAS - MANTISSA_BITS)).astype(np.float32)
    bars = np.zeros((len(counts), BARS), np.int64)
    edges = np.zeros((len(counts), bands + 1), np.float32)
    for start in range(0, len(counts), _FEATURES_AT_ONCE):
        part = slice(start, start + _FEATURES_AT_ONCE)
        c, b = counts[part].nonzero()
        number = last[part][c] - (counts.shape[1] - 1) + b
        below = np.minimum(exponent[part][c] - (number >> MANTISSA_BITS), BARS)
        bar = np.where(b == 0, 0, (_OF_MANTISSA + number % _OF_MANTISSA) >> below)
        np.add.at(bars[part], (c, bar), counts[part][c, b])
        edges[part] = _edges(counts[part], last[part], bands)
    tensors = {"activation_count": bars, "activation_step": step, "band_edge": edges}
    return {name: torch.from_numpy(each) for name, each in tensors.items()}


def _edges(counts: np.ndarray, last: np.ndarray, bands: int) -> np.ndarray:
    """The borders of bands [C, bands + 1]."""
    up_to = counts.cumsum(axis=1, dtype=np.int64)
    n = up_to[:, -1:] if counts.shape[1] else np.zeros((len(counts), 1), np.int64)
    ranks = np.arange(bands)[None] * n // max(1, bands)
    bins = (up_to[:, None, :] <= ranks[:, :, None]).sum(axis=2)
    numbers = np.where(bins == 0, 0, last[:, None] - (counts.shape[1] - 1) + bins)
    ends = np.concatenate([numbers, last[:, None] + 1], axis=1)
    values = (np.maximum(ends, 0).astype(np.int32) << (23 - MANTISSA_BITS)).view(np.float32)
    return np.where(n > 0, values, np.float32(0))


def logit_histogram(rows: Float[Tensor, "F D"], W: Float[Tensor, "V D"]) -> dict[str, Tensor]:
    """How the weights of each feature for all tokens are spread, centered over the vocabulary.

    Args:
        rows, W: as of `logit_weights`.

    Returns:
        `logit_count` int64 [F, LOGIT_BARS]; `logit_least` and `logit_most` float32 [F], between which the bars are.
    """
    at_once = max(1, _WEIGHTS_AT_ONCE // len(W))
    parts = [_of_some(part.to(W) @ W.T) for part in rows.split(at_once)]
    names = ("logit_count", "logit_least", "logit_most")
    return {name: torch.cat(each).cpu() for name, each in zip(names, zip(*parts, strict=True), strict=True)}


def _of_some(weights: Float[Tensor, "F V"]) -> tuple[Tensor, Tensor, Tensor]:
    weights = (weights - weights.mean(dim=1, keepdim=True)).float()
    least, most = weights.amin(dim=1), weights.amax(dim=1)
    step = ((most - least) / LOGIT_BARS).clamp_min(torch.finfo(torch.float32).tiny)
    bar = ((weights - least[:, None]) / step[:, None]).long().clamp(0, LOGIT_BARS - 1)
    counts = torch.zeros(len(weights), LOGIT_BARS, dtype=torch.int64, device=weights.device)
    return counts.scatter_add_(1, bar, torch.ones_like(bar)), least, most
