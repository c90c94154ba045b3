"""How coarsely a code can be written down before the loss feels it; and how many coefficients of a basis take as many
bits as a dictionary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.encode import FEATURES_AT_ONCE
from sae_cli.evaluation.held_out import HeldOutRows
from sae_cli.evaluation.splice import Splicer
from sae_cli.metrics.code_length import LevelCounts, mean_contribution, quantized
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.language_loss import LossSums
from sae_cli.tensor_types import Float, SiteActivations, Tensor

NEUTRAL = 1e-3
"""What a step may cost: nats a token of divergence between the predictions with and without it (the rise in loss of a
model that is right about itself, without the noise of the text), or, where nothing is predicted, a share of the
variance."""
TOKENS = 4096
"""On which steps are tried."""
_TRIED = (2.0, 1.0, 0.5, 0.25)
"""Steps, in units of the mean contribution of a feature that fires."""


class TriedSteps:
    """What each of several steps costs the model.

    Args:
        splicer: of the dictionary.
        dictionary: whose code is rounded.
    """

    def __init__(self, splicer: Splicer, dictionary: Dictionary) -> None:
        self._splicer, self._dictionary = splicer, dictionary
        self._sums = LossSums([str(i) for i in range(1, 1 + len(_TRIED))])
        self._unit: float | None = None

    def add(self, rows: HeldOutRows) -> None:
        """Try them on rows of text; the first of all says how large a contribution is."""
        if self._unit is None:
            self._unit = self._splicer.mean_contribution(rows)
        ways = [lambda seen: seen.reconstruction, *_ways(self._dictionary, self._steps())]
        self._splicer.add_instead(rows, ways, self._sums)

    def neutral(self) -> float:
        """The step that costs `NEUTRAL`, interpolated between those that were tried."""
        total = self._sums.pooled.results()
        costs = [total[f"kl_{i}"] / total["tokens"] for i in range(1, 1 + len(_TRIED))]
        return _at(NEUTRAL, self._steps(), costs)

    def _steps(self) -> list[float]:
        return [(self._unit or 1.0) * part for part in _TRIED]


def neutral_step_of_variance(dictionary: Dictionary, x: Float[Tensor, "N D"]) -> float:
    """The step that raises the FVU by `NEUTRAL`."""
    seen = Encoded(dictionary, x)
    unit = mean_contribution(seen)
    variance = float((x - x.mean(dim=0)).square().sum())
    steps = [unit * part for part in _TRIED]
    errors = [float((x - each(seen)).square().sum()) for each in _ways(dictionary, steps)]
    exact = float((x - seen.reconstruction).square().sum())
    return _at(NEUTRAL, steps, [(each - exact) / variance for each in errors])


def k_at_bits(
    make: Callable[[int], Dictionary], x: Float[Tensor, "N D"], bits: float, k: int, step: float, most: int
) -> int:
    """How many coefficients of a basis take so many bits, or come closest from below, at least 1.

    Args:
        make: the basis with so many coefficients.
        x: activations that it is tried on.
        bits: that they may take, a token.
        k: coefficients whose neutral step is `step`; that of others is taken to fall with the root of their number.
        step: of the quantization.
        most: coefficients that there are.
    """
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        if _bits(make(middle), x, step * math.sqrt(k / middle)) <= bits:
            low = middle
        else:
            high = middle - 1
    return low


@torch.no_grad()
def _bits(dictionary: Dictionary, x: Float[Tensor, "N D"], step: float) -> float:
    counts = LevelCounts(dictionary.n_features, step)
    at_once = max(1, FEATURES_AT_ONCE // dictionary.n_features)
    parts = [Encoded(dictionary, part.to(dictionary.W_dec.device)) for part in x.split(at_once)]
    for each in parts:
        counts.add(each)
    book = counts.results()
    return float(torch.cat([book.bits(each) for each in parts]).mean())


def _ways(dictionary: Dictionary, steps: Sequence[float]) -> list[Callable[[Encoded], SiteActivations]]:
    return [partial(_coarse, dictionary=dictionary, step=step) for step in steps]


def _coarse(seen: Encoded, dictionary: Dictionary, step: float) -> SiteActivations:
    return dictionary.decode(quantized(seen.f, seen.decoder_norms, step), seen.x)


def _at(cost: float, steps: Sequence[float], costs: Sequence[float]) -> float:
    """The step of such a cost: between two that were tried a power law, below all of them the square law of small
    steps; the largest if all cost less."""
    if costs[0] <= cost:
        return steps[0]
    for i in range(1, len(steps)):
        if costs[i] <= cost:
            below = max(costs[i], costs[i - 1] * 1e-3)  # of a code that is exact at this step
            share = math.log(cost / below) / math.log(costs[i - 1] / below)
            return steps[i] * (steps[i - 1] / steps[i]) ** share
    return steps[-1] * math.sqrt(cost / costs[-1])
