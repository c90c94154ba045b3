"""On which tokens each feature fires: entropy and the shares of the commonest tokens."""

from __future__ import annotations

import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.tensor_types import Float, Int, Tensor

_KEYS_AT_ONCE = 2**22


class TokenCounts:
    """How often each feature fired on each token of the vocabulary; only pairs that occurred are held.

    Args:
        n_features: F.
        vocab_size: V.
    """

    def __init__(self, n_features: int, vocab_size: int) -> None:
        self._features, self._vocab = n_features, vocab_size
        self._pairs = torch.zeros(0, dtype=torch.int64)  # feature * V + token, sorted
        self._counts = torch.zeros(0, dtype=torch.int64)
        self._new: list[Tensor] = []
        self._n_new = 0

    def add(self, seen: Encoded) -> None:
        """Add a batch: which features fired, and the token at each position."""
        assert seen.tokens is not None, "there is a text"
        rows, features = (seen.f > 0).cpu().nonzero(as_tuple=True)
        self._new.append(features * self._vocab + seen.tokens.cpu()[rows])
        self._n_new += len(rows)
        if self._n_new >= _KEYS_AT_ONCE:
            self._count_new()

    def merge(self, other: TokenCounts) -> TokenCounts:
        """The counts of both parts."""
        assert (self._features, self._vocab) == (other._features, other._vocab)
        merged = TokenCounts(self._features, self._vocab)
        for part in (self, other):
            part._count_new()
            merged._include(part._pairs, part._counts)
        return merged

    def results(self) -> dict[str, Float[Tensor, " F"]]:
        """For each feature, `token_entropy` in bits and the shares of its commonest token and of its three
        commonest, `top1_share` and `top3_share`; NaN for features that never fired."""
        self._count_new()
        feature, count = self._pairs // self._vocab, self._counts.double()
        total = self._per_feature(feature, count)
        share = count / total[feature]
        # By feature, the commonest token first.
        order = torch.argsort(share, descending=True, stable=True)
        order = order[torch.argsort(feature[order], stable=True)]
        feature, share = feature[order], share[order]
        starts = torch.searchsorted(feature, torch.arange(self._features))
        place = torch.arange(len(feature)) - starts[feature]
        dead = torch.where(total > 0, 0.0, torch.nan)
        return {
            "token_entropy": (self._per_feature(feature, -share * share.log2()) + dead).float(),
            "top1_share": (self._per_feature(feature, share * (place < 1)) + dead).float(),
            "top3_share": (self._per_feature(feature, share * (place < 3)) + dead).float(),
        }

    def _per_feature(self, feature: Int[Tensor, " P"], values: Float[Tensor, " P"]) -> Float[Tensor, " F"]:
        return torch.zeros(self._features, dtype=torch.float64).index_add_(0, feature, values)

    def _count_new(self) -> None:
        self._include(*torch.cat(self._new or [self._pairs[:0]]).unique(return_counts=True))
        self._new, self._n_new = [], 0

    def _include(self, pairs: Int[Tensor, " P"], counts: Int[Tensor, " P"]) -> None:
        both = torch.cat([self._pairs, pairs])
        self._pairs, place = both.unique(return_inverse=True)
        merged = torch.zeros(len(self._pairs), dtype=torch.int64)
        self._counts = merged.index_add_(0, place, torch.cat([self._counts, counts]))
