"""The trivial explanation: at every position, the mean activation of the token there, or of the last two tokens.

It knows nothing of what the network computes. What it recovers of the loss, a dictionary has to add to.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from functools import cached_property

import torch

from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.mean import Mean
from sae_cli.tensor_types import Bool, Float, Int, Rows, Tensor

TokenActivations = Iterable[tuple[Rows, Float[Tensor, "B S E"]]]
"""Rows of tokens, and the activations at their positions from `FIRST_POSITION` on."""


class TokenMeans:
    """y(t) = mean of y where the current token, or the current and the one before, were the same in the training text.

    Two tokens that were not seen together are known by the current one; a token that was not seen, by the mean of all.

    Args:
        depth: 1 or 2 tokens.
        asked: rows that it will be asked about; it holds no other means.
        seen: the training text.
        activation_mean: what stands in for the activations where the mean does.
    """

    def __init__(
        self, depth: int, asked: Iterable[Rows], seen: TokenActivations, activation_mean: Float[Tensor, " E"]
    ) -> None:
        self.activation_mean = activation_mean
        asked = list(asked)
        keys = {n: torch.cat([_keys(rows, n).flatten() for rows in asked]).unique() for n in range(1, depth + 1)}
        self._levels = {n: _Level(of_n, len(activation_mean)) for n, of_n in keys.items()}
        of_all = Mean()
        for tokens, y in seen:
            flat = y.flatten(0, 1).double().cpu()
            of_all.add(flat)
            for n, level in self._levels.items():
                level.add(_keys(tokens, n)[:, FIRST_POSITION:].flatten(), flat)
        self._mean_of_all = of_all.results()

    def of_depth(self, depth: int) -> TokenMeans:
        """What fewer of the last tokens say."""
        fewer = copy(self)
        fewer._levels = {n: level for n, level in self._levels.items() if n <= depth}
        return fewer

    def of(self, rows: Rows) -> Float[Tensor, "B T E"]:
        """The means at all positions; the first of a row knows no token before it."""
        found = self._mean_of_all.expand(*rows.shape, -1).clone()
        for depth, level in self._levels.items():
            place, known = level.places(_keys(rows, depth))
            known &= level.counts[place] > 0
            found[known] = level.means[place[known]]
        return found.float()

    def encoded(self, tokens: Rows, y: Float[Tensor, "B T E"], counted: Bool[Tensor, "B T"]) -> Encoded:
        """What stands in for y at the counted positions, as metrics see a dictionary's reconstruction: of one feature
        that fires."""
        return _ByToken(self.of(tokens).to(y.device)[counted], y[counted])


class _Level:
    """Means by key."""

    def __init__(self, keys: Int[Tensor, " K"], width: int) -> None:
        self.keys = keys
        self._sums = torch.zeros(len(keys), width, dtype=torch.float64)
        self.counts = torch.zeros(len(keys), dtype=torch.int64)

    def add(self, keys: Int[Tensor, " N"], y: Float[Tensor, "N E"]) -> None:
        place, known = self.places(keys)
        self._sums.index_add_(0, place[known], y[known])
        self.counts += torch.bincount(place[known], minlength=len(self.keys))

    def places(self, keys: Int[Tensor, "*N"]) -> tuple[Int[Tensor, "*N"], Tensor]:
        if not len(self.keys):
            return torch.zeros_like(keys), torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return place, self.keys[place] == keys

    @cached_property
    def means(self) -> Float[Tensor, "K E"]:
        return self._sums / self.counts[:, None]


class _ByToken(Encoded):
    """One feature fires at every position; which one, its token says."""

    def __init__(self, instead: Float[Tensor, "N E"], y: Float[Tensor, "N E"]) -> None:
        self.x = self.target = y
        self.tokens = None
        self._instead = instead

    @property
    def f(self) -> Float[Tensor, "N 1"]:
        return torch.ones_like(self._instead[:, :1])

    @property
    def reconstruction(self) -> Float[Tensor, "N E"]:
        return self._instead

    @property
    def decoder_norms(self) -> Float[Tensor, " 1"]:
        return self._instead.norm(dim=1).mean()[None]


def _keys(rows: Rows, depth: int) -> Int[Tensor, "B T"]:
    """A number for the current token, or for it and the one before; -1 where there is none before."""
    current = rows.long().cpu().contiguous()
    if depth == 1:
        return current
    pairs = torch.full_like(current, -1)
    pairs[:, 1:] = current[:, :-1] * 2**32 + current[:, 1:]
    return pairs
