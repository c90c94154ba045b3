"""Rare features: what their encoder rows have in common, and how their density moves through training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from sae_cli.tensor_types import Bool, Float, Int, Tensor


def common_direction(rows: Float[Tensor, "F D"]) -> Float[Tensor, " D"]:
    """The mean of the rows at length 1, itself at length 1."""
    mean = _unit(rows).mean(dim=0)
    return (mean / mean.norm().clamp_min(1e-12)).to(rows.dtype)


def encoder_alignment(rows: Float[Tensor, "F D"]) -> float | None:
    """Mean cosine of two different rows, over all pairs; None for fewer than two rows.

    From the sum of the unit rows, ‖Σu‖² = Σᵢ‖uᵢ‖² + Σ over ordered pairs of cosines, so in O(F·d).
    """
    n, unit = len(rows), _unit(rows)
    if n < 2:
        return None
    return float((unit.sum(dim=0).square().sum() - unit.square().sum()) / (n * (n - 1)))


def _unit(rows: Float[Tensor, "F D"]) -> Float[Tensor, "F D"]:
    return rows.double() / rows.double().norm(dim=1, keepdim=True).clamp_min(1e-12)


class DensityHistory(NamedTuple):
    """The tensors of `density_history.safetensors`, by their names there.

    Attributes:
        count: tokens of each window on which each feature fired, int64 [W, F].
        tokens: of each window, int64 [W].
        step: steps done at the end of each window, int64 [W].
        exempt: features that were never to be resampled [F].
        resample_step: steps after which dead features were resampled, int64 [R].
        resampled: which features they were each time [R, F].
    """

    count: Int[Tensor, "W F"]
    tokens: Int[Tensor, " W"]
    step: Int[Tensor, " W"]
    exempt: Bool[Tensor, " F"]
    resample_step: Int[Tensor, " R"]
    resampled: Bool[Tensor, "R F"]


class PooledDensity(NamedTuple):
    """The density of a set of features, their counts pooled, over P points in time.

    A window in which none of them fired is pooled with those after it, up to one in which one did (the last, with
    those before it), so that every density is a ratio of counts and none is zero. If none fired in any window there
    are no points.

    Attributes:
        step: steps done at the end of each point's last window, int64 [P].
        tokens_seen: tokens seen at the middle of each point's windows, float64 [P].
        density: share of tokens on which a feature of the set fires, float64 [P].
        slope: of log10(density) over log10(tokens_seen), by least squares; None for fewer than two points.
    """

    step: Int[Tensor, " P"]
    tokens_seen: Float[Tensor, " P"]
    density: Float[Tensor, " P"]
    slope: float | None


def density_slope(
    count: Int[Tensor, "W F"], tokens: Int[Tensor, " W"], step: Int[Tensor, " W"], chosen: Bool[Tensor, " F"]
) -> PooledDensity:
    """Whether the chosen features are still getting rarer: their pooled density in the windows that begin after
    half of the tokens.

    Args:
        count: tokens of each window on which each feature fired.
        tokens: of each window.
        step: steps done at the end of each window.
        chosen: features.
    """
    ends = tokens.cumsum(0)
    begins_early = (ends - tokens) * 2 < ends[-1]
    return pooled_density(count, tokens, step, chosen, first=int(begins_early.sum()))


def pooled_density(
    count: Int[Tensor, "W F"],
    tokens: Int[Tensor, " W"],
    step: Int[Tensor, " W"],
    chosen: Bool[Tensor, " F"],
    first: int = 0,
) -> PooledDensity:
    """The pooled density of the chosen features in the windows from number `first` on."""
    fired, ends = count[first:, chosen].sum(dim=1), tokens.cumsum(0)
    groups = _groups_that_fired(fired.tolist())
    last = torch.tensor([first + group.stop - 1 for group in groups], dtype=torch.int64)
    begin = torch.tensor([first + group.start for group in groups], dtype=torch.int64)
    before = ends[begin] - tokens[begin]
    counts = torch.tensor([int(fired[group].sum()) for group in groups], dtype=torch.float64)
    density = counts / (ends[last] - before) / int(chosen.sum())
    middle = (ends[last] + before).double() / 2
    return PooledDensity(step[last], middle, density, _slope(middle.log10(), density.log10()))


def _groups_that_fired(fired: Sequence[int]) -> list[slice]:
    """Neighbouring windows, as few as possible in each group, such that every group has a count."""
    ends = [number + 1 for number, count in enumerate(fired) if count > 0]
    if not ends:
        return []
    ends[-1] = len(fired)
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _slope(x: Float[Tensor, " P"], y: Float[Tensor, " P"]) -> float | None:
    if len(x) < 2:
        return None
    centered = x - x.mean()
    return float(centered @ y / centered.square().sum())


def final_frequency(history: DensityHistory, share: float = 0.1) -> Float[Tensor, " F"]:
    """The share of tokens on which each feature fires at the end of training: in the fewest last windows that make up
    this share of it."""
    seen = history.tokens.cumsum(0)
    before = seen - history.tokens  # where each window begins
    last = int((before <= (1 - share) * seen[-1]).sum()) - 1
    return history.count[last:].sum(dim=0).double() / history.tokens[last:].sum()


def rare_in_part(
    count: Int[Tensor, "W F"], tokens: Int[Tensor, " W"], part: tuple[float, float], below: float
) -> Bool[Tensor, " F"]:
    """Features that fire on a smaller share than `below` of the tokens of a part of training; also those that never do.

    None where no window ends in that part, as in trainings of a few steps.

    Args:
        count: tokens of each window on which each feature fired.
        tokens: of each window.
        part: where it begins and ends, as shares of all tokens; windows belong to it by where they end.
        below: a frequency.
    """
    end = tokens.cumsum(0) / tokens.sum()
    inside = (end > part[0]) & (end <= part[1])
    return count[inside].sum(dim=0).double() < below * tokens[inside].sum()


class Trajectory(NamedTuple):
    """What became of a set of features.

    Attributes:
        features: how many there are.
        firing: how many of them fired at all in each window, int64 [W].
        whole: their pooled density over all of training.
        late: the same over the second half of the training: is there still a slope?
    """

    features: int
    firing: Int[Tensor, " W"]
    whole: PooledDensity
    late: PooledDensity


def trajectory(history: DensityHistory, chosen: Bool[Tensor, " F"]) -> Trajectory:
    """Of the chosen features."""
    count, tokens, step = history[:3]
    return Trajectory(
        int(chosen.sum()),
        (count[:, chosen] > 0).sum(dim=1),
        pooled_density(count, tokens, step, chosen),
        density_slope(count, tokens, step, chosen),
    )


def exempt_and_resampled(
    history: DensityHistory, part: tuple[float, float] = (0.1, 0.3), below: float = 1e-4
) -> dict[str, Trajectory]:
    """Of the features that are rare in an early part of training: those that resampling left alone, and the others.

    Args:
        history: of one training run.
        part: where the early part begins and ends, as shares of all tokens. One that ends before the first
            resampling makes the sets comparable; at the very beginning no feature is rare yet.
        below: frequency there that counts as rare.

    Returns:
        `exempt`: never resampled, by lot; `not_exempt`: all others, so that exempt features are a random sample of
        the same kind; `resampled`: those of the others that were resampled at least once.
    """
    rare = rare_in_part(history.count, history.tokens, part, below)
    chosen = {
        "exempt": rare & history.exempt,
        "not_exempt": rare & ~history.exempt,
        "resampled": rare & history.resampled.any(dim=0),
    }
    return {name: trajectory(history, features) for name, features in chosen.items()}
