"""How dead features begin again: the published rules, and one that leaves the others as undisturbed as it can.

* `bricken2023` ("Towards Monosemanticity", appendix on neuron resampling): an input is drawn with probability
  proportional to the square of its loss ‖y - ŷ‖². The decoder row is what was to be written for it, less the bias, at
  length 1; the encoder row is in the direction of the input as the encoder sees it.
* `marks2023` (saprmarks/dictionary_learning, `resample_neurons` in `training.py`, commit 63b2174 of 19 December 2023):
  drawn with probability proportional to ‖y - ŷ‖; the decoder row is what was to be written as it is, bias and all, at
  length 1; the encoder row of all is .2 times the mean row of those that are alive. Moments of the decoder are kept.
  Since 2024 that code draws without replacement and makes encoder rows of the inputs themselves, times .2 of the mean
  norm of those alive: that is another rule, and not this one.
* `local`: rows as by `bricken2023`; the bias is such that the feature fires as often as the median live one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from sae_cli.config.resample import ResampleRule
from sae_cli.dictionaries.objective import Objective
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_ENTRIES_AT_ONCE = 2**24


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What the rules differ in.

    Attributes:
        weights: from losses ‖y - ŷ‖² [N] to what inputs are drawn in proportion to [N].
        less_bias: whether rows are those of inputs as the encoder and the decoder see them, less the biases.
        mean_encoder: whether encoder rows are the mean of those alive, unless something else is asked for.
        forgets_decoder: whether Adam's moments of decoder rows begin again too.
        local: whether features fire as often as others from the start, and have learning rates of their own.
    """

    weights: Callable[[Tensor], Tensor] = torch.square
    less_bias: bool = True
    mean_encoder: bool = False
    forgets_decoder: bool = True
    local: bool = False


RULES = {
    ResampleRule.bricken2023: Rule(),
    ResampleRule.marks2023: Rule(weights=torch.sqrt, less_bias=False, mean_encoder=True, forgets_decoder=False),
    ResampleRule.local: Rule(local=True),
}


def active_counts(objective: Objective, x: Float[Tensor, "N D"]) -> Int[Tensor, " F"]:
    """On how many inputs, in the units of training, each feature is active."""
    dictionary = objective.dictionary({**objective.tensors(), "activation_mean": objective.b_dec})
    size = max(1, _ENTRIES_AT_ONCE // dictionary.n_features)
    counts = [(dictionary.encode(part) > 0).sum(dim=0) for part in x.split(size)]
    return torch.stack(counts).sum(dim=0)


def median_count(counts: Int[Tensor, " F"], alive: Bool[Tensor, " F"]) -> int:
    """On how many inputs the median feature that is alive is active: the lower of two; at least 1."""
    return max(1, int(counts[alive].median())) if alive.any() else 1


def limits_for(rows: Float[Tensor, "K D"], x: Float[Tensor, "N D"], count: int) -> Float[Tensor, " K"]:
    """For each row the number that it has a larger product with on `count` of the inputs: halfway to the next.

    Args:
        rows: of the encoder.
        x: inputs as the encoder sees them.
        count: fewer than there are inputs, or all are above the limit.
    """
    size = max(1, _ENTRIES_AT_ONCE // len(x))
    found = []
    for part in rows.split(size):
        largest = (part @ x.T).topk(min(count + 1, len(x)), dim=1).values
        found.append(largest[:, -2:].mean(dim=1) if count < len(x) else largest[:, -1] - 1)
    return torch.cat(found) if found else rows.new_zeros(0)
