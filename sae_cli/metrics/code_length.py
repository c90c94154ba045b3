"""How many bits a code takes: what the features of a token cost to write down, quantized so that the loss does not feel
it.

Every feature is written by itself: its contribution fᵢ‖dᵢ‖ in whole steps, 0 where it does not fire, in a code whose
lengths follow from how often each number of steps occurs in the training text. Unlike L0 this sees how rare features
are, how many there are, and how exactly their strengths must be known (Ayonrinde et al. 2024, arXiv:2410.11179).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.tensor_types import Float, Int, Tensor

_LEVELS = 2**24
"""More steps than this are written as so many."""
_ADDED = 0.5
"""To the count of every number of steps, and of those never seen together (Krichevsky & Trofimov 1981)."""


class LevelCounts:
    """How often each feature is at each number of steps.

    Args:
        n_features: features.
        step: of the quantization, in the activations' units.
    """

    def __init__(self, n_features: int, step: float) -> None:
        self.n_features, self.step = n_features, step
        self.n = 0
        self._keys = torch.zeros(0, dtype=torch.int64)
        self._counts = torch.zeros(0, dtype=torch.int64)

    def add(self, seen: Encoded) -> None:
        """Add a batch."""
        _, keys = _levels(seen, self.step)
        found, counts = keys.unique(return_counts=True)
        self._join(found, counts, len(seen.f))

    def merge(self, other: LevelCounts) -> LevelCounts:
        """The counts of both parts, whose steps are the same."""
        assert (self.n_features, self.step) == (other.n_features, other.step)
        merged = LevelCounts(self.n_features, self.step)
        for part in (self, other):
            merged._join(part._keys, part._counts, part.n)
        return merged

    def _join(self, keys: Int[Tensor, " K"], counts: Int[Tensor, " K"], n: int) -> None:
        self._keys, place = torch.cat([self._keys, keys]).unique(return_inverse=True)
        joined = torch.zeros(len(self._keys), dtype=torch.int64)
        self._counts = joined.index_add_(0, place, torch.cat([self._counts, counts]))
        self.n += n

    def results(self) -> CodeBook:
        """The code whose lengths follow from the counts."""
        feature = self._keys // _LEVELS
        fires, kinds = (torch.zeros(self.n_features, dtype=torch.float64) for _ in range(2))
        fires.index_add_(0, feature, self._counts.double())
        kinds.index_add_(0, feature, torch.ones(len(feature), dtype=torch.float64))
        total = (self.n + _ADDED * (kinds + 2)).log2()  # of every number of steps, of none, and of any not seen
        return CodeBook(
            step=self.step,
            off=total - (self.n - fires + _ADDED).log2(),
            unseen=total - math.log2(_ADDED),
            keys=self._keys,
            lengths=total[feature] - (self._counts.double() + _ADDED).log2(),
        )


class CodeBook(NamedTuple):
    """The length of every word.

    Attributes:
        step: of the quantization.
        off: bits that say of each feature that it is at 0 [F].
        unseen: bits that say that a number of steps follows, which was not seen in the training text [F].
        keys: feature and number of steps, ascending [K].
        lengths: bits of each of these [K].
    """

    step: float
    off: Float[Tensor, " F"]
    unseen: Float[Tensor, " F"]
    keys: Int[Tensor, " K"]
    lengths: Float[Tensor, " K"]

    def bits(self, seen: Encoded) -> Float[Tensor, " N"]:
        """What each token's code takes."""
        row, keys = _levels(seen, self.step)
        feature = keys // _LEVELS
        lengths = self.unseen[feature] + _length_of_number(keys % _LEVELS)
        if len(self.keys):
            place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
            lengths = torch.where(self.keys[place] == keys, self.lengths[place], lengths)
        bits = self.off.sum().expand(len(seen.f)).clone()
        return bits.index_add_(0, row, lengths - self.off[feature])


def mean_contribution(seen: Encoded) -> float:
    """fᵢ‖dᵢ‖ of a feature where it fires; 1 where none does."""
    contribution = seen.f.double() * seen.decoder_norms.double()
    return float(contribution.sum()) / max(1, int((seen.f > 0).sum())) or 1.0


def quantized(f: Float[Tensor, "N F"], norms: Float[Tensor, " F"], step: float) -> Float[Tensor, "N F"]:
    """The activations whose contributions are whole steps."""
    scale = norms / step
    return torch.where(scale > 0, (f * scale).round() / scale.clamp_min(torch.finfo(f.dtype).tiny), 0.0)


def _levels(seen: Encoded, step: float) -> tuple[Int[Tensor, " A"], Int[Tensor, " A"]]:
    """The token of everything that is not at 0, and a number for its feature and its number of steps."""
    row, feature = (each.cpu() for each in seen.f.nonzero(as_tuple=True))
    contribution = seen.f.cpu()[row, feature].double() * seen.decoder_norms.cpu().double()[feature]
    level = (contribution / step).round().clamp(max=_LEVELS - 1).long()
    there = level > 0
    return row[there], feature[there] * _LEVELS + level[there]


def _length_of_number(number: Int[Tensor, " A"]) -> Float[Tensor, " A"]:
    """Bits of Elias' gamma code of a whole number from 1."""
    return 2 * number.double().log2().floor() + 1
