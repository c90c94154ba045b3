"""What each feature does to the logits on the direct path: its weight for every token of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from sae_cli.metrics.directions import kurtosis, skew
from sae_cli.tensor_types import Float, Int, Tensor

SHOWN = 10
"""Tokens that are kept from either end."""

_WEIGHTS_AT_ONCE = 2**24


@dataclass(frozen=True)
class LogitWeights:
    """Of F features; weights are centered over the vocabulary, in logits a unit of the feature.

    Attributes:
        top_tokens, bottom_tokens: the tokens with the largest and the smallest weights [F, K], from the end inwards.
        top_weights, bottom_weights: their weights [F, K].
        kurtosis, skew: of the weights over the vocabulary [F]; 3 and 0 for Gaussian ones.
    """

    top_tokens: Int[Tensor, "F K"]
    bottom_tokens: Int[Tensor, "F K"]
    top_weights: Float[Tensor, "F K"]
    bottom_weights: Float[Tensor, "F K"]
    kurtosis: Float[Tensor, " F"]
    skew: Float[Tensor, " F"]

    def tensors(self) -> dict[str, Tensor]:
        """What `features.safetensors` holds, each as `logit_<name>`."""
        return {f"logit_{each.name}": getattr(self, each.name).cpu() for each in fields(self)}


def logit_weights(rows: Float[Tensor, "F D"], W: Float[Tensor, "V D"], shown: int = SHOWN) -> LogitWeights:
    """The weights W_c · row, never all of them at once.

    Args:
        rows: features after the final norm, its gain left out.
        W: from there to the logits.
        shown: tokens kept from either end.
    """
    shown, at_once = min(shown, len(W)), max(1, _WEIGHTS_AT_ONCE // len(W))
    parts = [_of_some(part.to(W) @ W.T, shown) for part in rows.split(at_once)]
    return LogitWeights(
        **{each.name: torch.cat([getattr(part, each.name) for part in parts]) for each in fields(LogitWeights)}
    )


def _of_some(weights: Float[Tensor, "F V"], shown: int) -> LogitWeights:
    weights = weights - weights.mean(dim=1, keepdim=True)
    top, bottom = weights.topk(shown, dim=1), weights.topk(shown, dim=1, largest=False)
    return LogitWeights(
        top_tokens=top.indices,
        bottom_tokens=bottom.indices,
        top_weights=top.values.float(),
        bottom_weights=bottom.values.float(),
        kurtosis=kurtosis(weights),
        skew=skew(weights),
    )
