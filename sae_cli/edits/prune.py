"""Which features of a dictionary to keep, by how often they fire, and making up for those that are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.seeds import generator
from sae_cli.tensor_types import Bool, Float, Int, Tensor


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is pruned; at most one of the first three is given.

    Attributes:
        max_freq: features that fire on a larger share of tokens.
        target_l0: all above the highest threshold at which L0, the sum of frequencies, is at most this.
        top_n: the N most frequent, in the order of their numbers where frequencies are equal.
        min_freq: features that fire on a smaller share of tokens.
        band: features that fire, and whose place in the order of frequency is in this range: from 0 for the rarest to 1
            for the most frequent; its start is in it, its end only if that is 1.
    """

    max_freq: float | None = None
    target_l0: float | None = None
    top_n: int | None = None
    min_freq: float | None = None
    band: tuple[float, float] | None = None


def kept_features(frequency: Float[Tensor, " F"], limits: Limits) -> Int[Tensor, " K"]:
    """The numbers of the features that the limits leave, in order.

    Args:
        frequency: share of tokens on which each feature fires, float64.
        limits: what is pruned.
    """
    keep = torch.ones(len(frequency), dtype=torch.bool)
    if limits.max_freq is not None:
        keep &= frequency <= limits.max_freq
    if limits.target_l0 is not None:
        keep &= _below_threshold(frequency, limits.target_l0)
    if limits.top_n is not None:
        keep[frequency.sort(descending=True, stable=True).indices[: limits.top_n]] = False
    if limits.min_freq is not None:
        keep &= frequency >= limits.min_freq
    if limits.band is not None:
        keep[_in_band(frequency, limits.band)] = False
    return keep.nonzero()[:, 0]


def control_features(frequency: Float[Tensor, " F"], kept: Int[Tensor, " K"], seed: int) -> Int[Tensor, " C"] | None:
    """What is kept where, in place of the features that are pruned, others are that fire as often in total.

    These are drawn at random of those that fire, one after another, and each is taken that does not bring their summed
    frequency above that of the features whose control they are. So it comes within the frequency of the rarest of the
    others.

    Args:
        frequency: share of tokens on which each feature fires, float64.
        kept: the features that are not pruned.
        seed: of the draw.

    Returns: the numbers of the features that are kept; None where all others together fire less often.
    """
    others = kept[frequency[kept] > 0]
    left = float(frequency.sum() - frequency[kept].sum()) * (1 + 1e-12)
    if float(frequency[others].sum()) < left:
        return None
    keep = torch.ones(len(frequency), dtype=torch.bool)
    order = torch.randperm(len(others), generator=generator("control of a pruning", seed))
    for feature in others[order]:
        if (own := float(frequency[feature])) <= left:
            left -= own
            keep[feature] = False
    return keep.nonzero()[:, 0]


def recentered(dictionary: Dictionary, mean_error: Float[Tensor, " D"]) -> Dictionary:
    """The dictionary with the mean error added to its output, and with the same codes, bit for bit.

    The squared error on the tokens that the mean is over falls by ‖mean error‖² each.

    Args:
        dictionary: whose error it is.
        mean_error: mean of x - x̂.
    """
    return dictionary.replace(b_dec=dictionary.b_dec + mean_error.float(), b_pre=dictionary.center)


def _in_band(frequency: Float[Tensor, " F"], band: tuple[float, float]) -> Int[Tensor, " B"]:
    """The features of a range of places, equal ones in the order of their numbers."""
    order = frequency.sort(stable=True).indices
    firing = order[frequency[order] > 0]
    first, last = (round(end * len(firing)) for end in band)
    return firing[first:last]


def _below_threshold(frequency: Float[Tensor, " F"], l0: float) -> Bool[Tensor, " F"]:
    """Which features to keep so that their frequencies sum to at most `l0`; equal ones go together."""
    found = frequency.unique(return_counts=True)  # pyright: ignore (torch does not say its type)
    levels, number = cast(tuple[Tensor, Tensor], found)
    reached = (levels * number).cumsum(0) <= l0 * (1 + 1e-12)  # rounding of a sum is no reason to kill more
    return frequency <= levels[reached].max() if reached.any() else torch.zeros_like(frequency, dtype=torch.bool)
