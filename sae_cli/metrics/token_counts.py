"""On which tokens each feature fires: entropy and the shares of the commonest tokens."""

from __future__ import annotations

import math

import numpy as np
import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Int, Tensor

_KEYS_AT_ONCE = 2**22
_DRAWS = 65_536
"""Random tokens, at least, from which the entropy that chance has is taken for a number of them."""
_GRID = 48
"""Numbers of tokens for which it is; between these it is read off straight lines over their logarithm."""


class TokenCounts:
    """How often each feature fired on each token of the vocabulary; only pairs that occurred are held.

    Counts are held in lists of which each is more than twice as long as the next, so that a pair is sorted again only
    as often as the number of pairs doubles.

    Args:
        n_features: F.
        vocab_size: V.
    """

    def __init__(self, n_features: int, vocab_size: int) -> None:
        self._features, self._vocab = n_features, vocab_size
        self._lists: list[tuple[Tensor, Tensor]] = []  # feature * V + token, sorted, and how often
        self._seen = torch.zeros(vocab_size, dtype=torch.int64)  # of each token
        self._new: list[Tensor] = []
        self._n_new = 0

    def add(self, seen: Encoded) -> None:
        """Add a batch: which features fired, and the token at each position."""
        assert seen.tokens is not None, "there is a text"
        self._seen += torch.bincount(seen.tokens.cpu(), minlength=self._vocab)
        rows, features = (seen.f > 0).cpu().nonzero(as_tuple=True)
        self._new.append(features * self._vocab + seen.tokens.cpu()[rows])
        self._n_new += len(rows)
        if self._n_new >= _KEYS_AT_ONCE:
            self._count_new()

    def merge(self, other: TokenCounts) -> TokenCounts:
        """The counts of both parts."""
        assert (self._features, self._vocab) == (other._features, other._vocab)
        merged = TokenCounts(self._features, self._vocab)
        merged._seen = self._seen + other._seen
        for part in (self, other):
            part._count_new()
            merged._lists += part._lists
        merged._join(all_of_them=True)
        return merged

    def results(self) -> dict[str, Float[Tensor, " F"]]:
        """For each feature, `token_entropy` in bits, how far that is above what as many random tokens of the text have
        (`token_entropy_above_chance`, negative for what fires on some tokens only), and the shares of its commonest
        token and of its three commonest, `top1_share` and `top3_share`; NaN for features that never fired."""
        self._count_new()
        self._join(all_of_them=True)
        pairs, counts = self._lists[0]
        feature, count = pairs // self._vocab, counts.double()
        total = self._per_feature(feature, count)
        share = count / total[feature]
        # By feature, the commonest token first.
        order = torch.argsort(share, descending=True, stable=True)
        order = order[torch.argsort(feature[order], stable=True)]
        feature, share = feature[order], share[order]
        starts = torch.searchsorted(feature, torch.arange(self._features))
        place = torch.arange(len(feature)) - starts[feature]
        dead = torch.where(total > 0, 0.0, torch.nan)
        entropy = self._per_feature(feature, -share * share.log2()) + dead
        return {
            "token_entropy": entropy.float(),
            "token_entropy_above_chance": (entropy - chance_entropy(self._seen, total)).float(),
            "top1_share": (self._per_feature(feature, share * (place < 1)) + dead).float(),
            "top3_share": (self._per_feature(feature, share * (place < 3)) + dead).float(),
        }

    def _per_feature(self, feature: Int[Tensor, " P"], values: Float[Tensor, " P"]) -> Float[Tensor, " F"]:
        return torch.zeros(self._features, dtype=torch.float64).index_add_(0, feature, values)

    def _count_new(self) -> None:
        new = torch.cat(self._new or [torch.zeros(0, dtype=torch.int64)])
        self._lists.append(new.unique(return_counts=True))
        self._new, self._n_new = [], 0
        self._join()

    def _join(self, all_of_them: bool = False) -> None:
        """Make one of the last two lists as long as the last is not much the shorter, or of all."""
        while len(self._lists) > 1 and (all_of_them or len(self._lists[-2][0]) <= 2 * len(self._lists[-1][0])):
            self._lists.append(_sum(self._lists.pop(-2), self._lists.pop()))


def _sum(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Of two lists of pairs and how often they are, one."""
    pairs, place = torch.cat([first[0], second[0]]).unique(return_inverse=True)
    return pairs, torch.zeros(len(pairs), dtype=torch.int64).index_add_(0, place, torch.cat([first[1], second[1]]))


def chance_entropy(seen: Int[Tensor, " V"], draws: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The mean entropy, in bits, of so many random tokens: it is lower the fewer they are.

    Args:
        seen: how often each token is in the text.
        draws: numbers of tokens; 0 has no entropy.
    """
    most = float(draws.max()) if len(draws) else 0.0
    if most < 1:
        return torch.zeros_like(draws)
    grid = np.unique(np.geomspace(1, most, _GRID).round().astype(int))
    share = seen.double() / seen.sum()
    numbers = generator("entropy of random tokens", int(seen.sum()))
    found = [_mean_entropy(share, int(n), numbers) for n in grid]
    at = np.interp(np.log(draws.clamp_min(1).numpy()), np.log(grid), found)
    return torch.from_numpy(at)


def _mean_entropy(share: Float[Tensor, " V"], n: int, numbers: torch.Generator) -> float:
    times = math.ceil(_DRAWS / n)
    drawn = torch.multinomial(share, n * times, replacement=True, generator=numbers)
    pairs = torch.arange(times).repeat_interleave(n) * len(share) + drawn
    part = pairs.unique(return_counts=True)[1].double() / n
    return float(-(part * part.log2()).sum() / times)
