"""Activations with a hierarchy of features, as those of SynthSAEBench (Chanin 2026, arXiv 2602.14687)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch

from sae_cli.activations.truth import TruthActivations, tight_frame
from sae_cli.config.data import HierarchyData
from sae_cli.errors import RequestError
from sae_cli.seeds import generator
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_MOST_SHARED = 0.99
"""Of a feature's variance in the copula; what is left is its own."""
_COUNTED = 32
"""Blocks on which frequencies are counted, which have no closed form."""


class Level(NamedTuple):
    """Features whose parents are one level up: number `first` + i is a child of `parent` + i // branching."""

    first: int
    size: int
    parent: int


@dataclass(frozen=True)
class HierarchyActivations(TruthActivations):
    """Features in trees, whose children fire only where their parents do, and one of a parent's children at a time.

    By itself feature i fires with a probability that falls with its rank to the power of -`exponent`, from
    `most_frequent` to `least_frequent`, and with a magnitude relu(m + s·N(0, 1)), m falling from `first_magnitude` to
    `last_magnitude`, s = |N(.5, .5)|. Firing is correlated through a Gaussian copula of low rank. Then, level by level,
    what has no firing parent is put out, what is left is multiplied by its parent's magnitude over the parent's mean,
    and of siblings that fire one is kept, drawn uniformly. A child's own probability is made larger by what these two
    take away on average.

    Attributes: as the fields of `sae_cli.config.data.HierarchyData`.
    """

    d: int
    n_features: int
    roots: int
    branching: int
    depth: int
    exponent: float
    most_frequent: float
    least_frequent: float
    rank: int
    correlation: float
    first_magnitude: float
    last_magnitude: float
    bias: float
    seed: int

    size: ClassVar[int] = 1024

    @classmethod
    def of(cls, config: HierarchyData) -> HierarchyActivations:
        """Those that a configuration asks for.

        Raises:
            RequestError: the trees have more features than there are, or the probabilities rise.
        """
        truth = cls(
            d=config.d,
            n_features=config.n_features,
            roots=config.roots,
            branching=config.branching,
            depth=config.depth,
            exponent=config.frequency_exponent,
            most_frequent=config.most_frequent,
            least_frequent=config.least_frequent,
            rank=config.rank,
            correlation=config.correlation,
            first_magnitude=config.first_magnitude,
            last_magnitude=config.last_magnitude,
            bias=config.bias,
            seed=config.seed,
        )
        in_trees = truth.roots + sum(level.size for level in truth.levels)
        if in_trees > truth.n_features:
            raise RequestError(
                f"data.n_features={truth.n_features}: expected at least {in_trees:,}, those of {truth.roots} trees "
                f"(data.roots) with {truth.depth} levels (data.depth) of {truth.branching} children (data.branching)"
            )
        if truth.least_frequent > truth.most_frequent:
            raise RequestError(
                f"data.least_frequent={truth.least_frequent:g}: expected at most "
                f"data.most_frequent={truth.most_frequent:g}"
            )
        return truth

    @property
    def stream(self) -> str:
        return "hierarchical activations"

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """Those below the roots, in order; features are numbered breadth first."""
        found, parent, size = [], 0, self.roots
        for _ in range(self.depth):
            found.append(Level(parent + size, size * self.branching, parent))
            parent, size = parent + size, size * self.branching
        return tuple(found)

    def parents(self) -> Int[Tensor, " F"]:
        """The parent of each feature, -1 for roots and what is in no tree."""
        found = torch.full((self.n_features,), -1)
        for level in self.levels:
            children = torch.arange(level.size)
            found[level.first : level.first + level.size] = level.parent + children // self.branching
        return found

    def marginals(self) -> Float[Tensor, " F"]:
        """The probability with which each feature is meant to fire, before what the hierarchy takes away."""
        r = torch.arange(1, self.n_features + 1, dtype=torch.float64) ** -self.exponent
        spread = float(r[0] - r[-1]) or 1.0
        return self.least_frequent + (self.most_frequent - self.least_frequent) * (r - r[-1]) / spread

    def own_probabilities(self) -> Float[Tensor, " F"]:
        """The probability with which each feature fires by itself: of a child p/P·(1 + Σ of its siblings' p/P), P its
        parent's marginal; at most 1."""
        p = self.marginals()
        own = p.clone()
        for level in self.levels:
            children = p[level.first : level.first + level.size].unflatten(0, (-1, self.branching))
            given = children / p[level.parent : level.first, None]
            siblings = given.sum(dim=1, keepdim=True) - given
            own[level.first : level.first + level.size] = (given * (1 + siblings)).flatten()
        return own.clamp_max(1.0)

    def directions(self) -> Float[Tensor, "F D"]:
        return self._parts.directions

    def frequencies(self) -> Float[Tensor, " F"]:
        """Counted on 32,768 tokens: the hierarchy leaves no closed form."""
        count = torch.zeros(self.n_features, dtype=torch.float64)
        for number in range(_COUNTED):
            values = self._values(generator("frequencies of a hierarchy", self.seed, number))
            count += (values > 0).sum(dim=0)
        return count / (_COUNTED * self.size)

    def coded(self, numbers: torch.Generator) -> tuple[Float[Tensor, "N D"], Bool[Tensor, "N F"]]:
        values = self._values(numbers)
        fires = values > 0
        where = fires.nonzero()
        offsets = torch.searchsorted(where[:, 0].contiguous(), torch.arange(self.size))
        activations = torch.nn.functional.embedding_bag(
            where[:, 1].contiguous(), self._parts.directions, offsets, mode="sum", per_sample_weights=values[fires]
        )
        return activations + self._parts.bias, fires

    def _values(self, numbers: torch.Generator) -> Float[Tensor, "N F"]:
        """The magnitude of each feature on each token, zero where it does not fire."""
        parts = self._parts
        shared = torch.randn(self.size, self.rank, generator=numbers)
        latent = torch.randn(self.size, self.n_features, generator=numbers).mul_(parts.own_scale)
        latent.addmm_(shared, parts.factor.T)
        fires = latent > parts.threshold
        values = latent.zero_()
        in_levels = self.levels[-1].first + self.levels[-1].size if self.levels else 0
        for part in (slice(0, self.roots), slice(max(in_levels, self.roots), None)):
            self._fire(values[:, part], fires[:, part], parts.mean[part], parts.spread[part], numbers)
        for level in self.levels:
            self._obey(values, fires, level, numbers)
        return values

    def _fire(
        self,
        values: Float[Tensor, "N K"],
        fires: Bool[Tensor, "N K"],
        mean: Float[Tensor, " K"],
        spread: Float[Tensor, " K"],
        numbers: torch.Generator,
    ) -> Int[Tensor, "E 2"]:
        """Draw, in place, the magnitudes of features that fire; returns which these are."""
        where = fires.nonzero()
        token, feature = where.unbind(dim=1)
        drawn = torch.randn(len(where), generator=numbers)
        values[token, feature] = (mean[feature] + spread[feature] * drawn).relu()
        return where

    def _obey(
        self, values: Float[Tensor, "N F"], fires: Bool[Tensor, "N F"], level: Level, numbers: torch.Generator
    ) -> None:
        """Draw the magnitudes of those of a level that their parents allow, one of siblings, in place."""
        part, mean = slice(level.first, level.first + level.size), self._parts.mean
        parents, children = values[:, level.parent : level.first], values[:, part]
        allowed = fires[:, part] & (parents > 0).repeat_interleave(self.branching, dim=1)
        token, child = self._fire(children, allowed, mean[part], self._parts.spread[part], numbers).unbind(dim=1)
        parent = child // self.branching
        scaled = children[token, child] * parents[token, parent] / mean[level.parent + parent]
        # Of siblings that fire the one with the highest lot is kept.
        lot = torch.rand(len(token), generator=numbers) * (scaled > 0)
        rank = lot.argsort(stable=True).argsort(stable=True)
        family = token * parents.shape[1] + parent
        highest = torch.full((parents.numel(),), -1).scatter_reduce_(0, family, rank, "amax")
        children[token, child] = torch.where(highest[family] == rank, scaled, 0.0)

    @cached_property
    def _parts(self) -> _Parts:
        draw = generator("hierarchy", self.seed)
        directions = tight_frame(torch.randn(self.n_features, self.d, generator=draw))
        factor = self.correlation * torch.randn(self.n_features, self.rank, generator=draw)
        length = factor.norm(dim=1, keepdim=True)
        factor = factor * (_MOST_SHARED**0.5 / length.clamp_min(_MOST_SHARED**0.5))
        bias = torch.randn(self.d, generator=draw)
        own = self.own_probabilities()
        return _Parts(
            directions=directions,
            factor=factor,
            own_scale=(1 - factor.square().sum(dim=1)).sqrt(),
            threshold=torch.special.ndtri(1 - own).float(),
            mean=torch.linspace(self.first_magnitude, self.last_magnitude, self.n_features),
            spread=(0.5 + 0.5 * torch.randn(self.n_features, generator=draw)).abs(),
            bias=self.bias * bias / bias.norm(),
        )


class _Parts(NamedTuple):
    """What is drawn once.

    Attributes:
        directions: unit rows [F, D].
        factor: loadings of the copula [F, rank].
        own_scale: standard deviation of each feature's own part of it [F].
        threshold: above which a feature fires by itself [F].
        mean, spread: of magnitudes [F].
        bias: that is added to every activation [D].
    """

    directions: Float[Tensor, "F D"]
    factor: Float[Tensor, "F R"]
    own_scale: Float[Tensor, " F"]
    threshold: Float[Tensor, " F"]
    mean: Float[Tensor, " F"]
    spread: Float[Tensor, " F"]
    bias: Float[Tensor, " D"]
