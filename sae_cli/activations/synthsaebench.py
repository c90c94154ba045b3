"""The activations of SynthSAEBench (arXiv 2602.14687): a Zipf law, correlations, and trees of exclusive children.

What the benchmark draws for all features of a token is drawn here for those that can fire: a child where its parent
fires, the rare features outside of the tree where a Poisson process has a point. Given the common factors of a token,
features are independent, so that the law of what comes out is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch

from sae_cli.activations.truth import BLOCK, CodedBlock, Truth, block_of, random_unit_rows
from sae_cli.config.data import BenchData
from sae_cli.config.split import Split
from sae_cli.kernels.codes import Codes
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Int, Tensor

FIRST_MEAN, LAST_MEAN = 5.0, 4.0
"""Mean magnitude of the most and of the least frequent feature, before a child is scaled by its parent."""
SPREAD_MEAN, SPREAD_SD = 0.5, 0.5
"""The standard deviation of a feature's magnitude is |N(mean, sd²)|."""

_MOST_SHARED = 0.99  # of a latent's variance, by the common factors
_PROJECTIONS = 4
_STRETCH = 256  # tokens with one bound of the rates
_COUNTED = 16  # blocks that frequencies are counted on


class Entries(NamedTuple):
    """Some true features that fire: on which token, which, and how strongly."""

    token: Int[Tensor, " E"]
    feature: Int[Tensor, " E"]
    value: Float[Tensor, " E"]


@dataclass(frozen=True)
class BenchLaw:
    """What is drawn once for all tokens, of n features.

    Attributes:
        marginal: the frequency that is aimed at, float64 [n].
        own: the probability of firing of a feature by itself: of a child given that its parent fires, raised for what
            its siblings take from it, float64 [n].
        factors: loadings of the latents on what tokens have in common [n, rank].
        threshold: that a latent fires above, float64 [n].
        alone: standard deviation of the part of a latent that is its own, float64 [n].
        mean, spread: of magnitudes [n].
        first_child: where the children of a feature begin; -1 without [n].
    """

    marginal: Float[Tensor, " A"]
    own: Float[Tensor, " A"]
    factors: Float[Tensor, "A R"]
    threshold: Float[Tensor, " A"]
    alone: Float[Tensor, " A"]
    mean: Float[Tensor, " A"]
    spread: Float[Tensor, " A"]
    first_child: Int[Tensor, " A"]

    def probability(self, common: Float[Tensor, "*N"], feature: Int[Tensor, "*N"]) -> Float[Tensor, "*N"]:
        """That features fire by themselves given what the common factors add to their latents, float64."""
        return torch.special.ndtr((common.double() - self.threshold[feature]) / self.alone[feature])

    def magnitude(self, feature: Int[Tensor, "*N"], numbers: torch.Generator) -> Float[Tensor, "*N"]:
        """Of features that fire by themselves; 0 where the draw falls below 0, which is not to fire."""
        draw = torch.randn(feature.shape, generator=numbers)
        return torch.relu(self.mean[feature] + self.spread[feature] * draw)


@dataclass(frozen=True)
class BenchActivations(Truth):
    """Activations by the law of SynthSAEBench.

    With r = rank^-frequency_exponent, feature `rank` (from 1) has marginal frequency p rising linearly with r from
    `least_frequent` to `most_frequent`. The first features are `roots` trees, breadth first, each parent with
    `branching` children, `depth` levels below the roots; a child fires by itself with probability
    min(1, p / p_parent · (1 + Σ p_sibling / p_parent)), and what comes of it is 0 unless its parent fires and unless
    it is the one, chosen evenly, of the siblings that fire; then it is multiplied by the parent's value over the
    parent's mean magnitude. Latents of the firing have unit variance, A·Aᵀ of it common, A = correlation_scale ·
    randn(n, correlation_rank). A fixed vector of norm `bias_norm` is added to all activations. Directions are as
    orthogonal as so many can be: the rows of a tight frame.

    Attributes: as the fields of `sae_cli.config.data.BenchData`.
    """

    n_features: int
    roots: int
    branching: int
    depth: int
    most_frequent: float
    least_frequent: float
    frequency_exponent: float
    correlation_rank: int
    correlation_scale: float
    bias_norm: float

    @classmethod
    def of(cls, config: BenchData) -> BenchActivations:
        """Those that a configuration asks for."""
        return cls(
            d=config.d,
            seed=config.seed,
            n_features=config.n_features,
            roots=config.roots,
            branching=config.branching,
            depth=config.depth,
            most_frequent=config.most_frequent,
            least_frequent=config.least_frequent,
            frequency_exponent=config.frequency_exponent,
            correlation_rank=config.correlation_rank,
            correlation_scale=config.correlation_scale,
            bias_norm=config.bias_norm,
        )

    def directions(self) -> Float[Tensor, "A D"]:
        return _nearly_orthogonal(self.n_features, self.d, self.seed)

    def bias(self) -> Float[Tensor, " D"]:
        """What is added to all activations [d]."""
        return self.bias_norm * torch.nn.functional.normalize(
            torch.randn(self.d, generator=generator("true bias", self.seed)), dim=0
        )

    def frequencies(self) -> Float[Tensor, " A"]:
        """How often features fire, counted on 65,536 tokens of neither split: exclusion among correlated siblings has
        no closed form, and leaves less than `BenchLaw.marginal`."""
        return _counted(self)

    def law(self) -> BenchLaw:
        """What is drawn once."""
        return _law(self)

    def coded_block(self, split: Split, number: int) -> CodedBlock:
        numbers = generator("synthsaebench activations", self.seed, split.value, number)
        codes = self.codes(numbers)
        activations = torch.nn.functional.embedding_bag(
            codes.indices, self.directions(), codes.starts[:-1], mode="sum", per_sample_weights=codes.values
        )
        return CodedBlock(block_of(activations.add_(self.bias()), number), codes)

    def codes(self, numbers: torch.Generator) -> Codes:
        """True features on `BLOCK` tokens."""
        law = self.law()
        factors = torch.randn(BLOCK, self.correlation_rank, generator=numbers)
        parents = _roots(law, factors, self.roots, numbers)
        found = [parents, _outside(law, factors, self._in_trees, numbers)]
        for _ in range(self.depth):
            parents = _children(law, factors, parents, self.branching, numbers)
            found.append(parents)
        token, feature, value = map(torch.cat, zip(*found, strict=True))
        order = (token * self.n_features + feature).argsort()
        starts = torch.nn.functional.pad(torch.bincount(token, minlength=BLOCK).cumsum(0), (1, 0))
        return Codes(starts, feature[order], value[order], self.n_features)

    @property
    def _in_trees(self) -> int:
        return self.roots * sum(self.branching**level for level in range(self.depth + 1))


def _roots(law: BenchLaw, factors: Float[Tensor, "N R"], roots: int, numbers: torch.Generator) -> Entries:
    common = factors @ law.factors[:roots].T
    fires = torch.rand(common.shape, generator=numbers) < law.probability(common, torch.arange(roots))
    token, feature = fires.nonzero(as_tuple=True)
    return _firing(law, token, feature, numbers)


def _firing(law: BenchLaw, token: Tensor, feature: Tensor, numbers: torch.Generator) -> Entries:
    """Those that fire by themselves, with their magnitudes, where these are not 0."""
    value = law.magnitude(feature, numbers)
    return Entries(token[value > 0], feature[value > 0], value[value > 0])


def _children(
    law: BenchLaw, factors: Float[Tensor, "N R"], parents: Entries, branching: int, numbers: torch.Generator
) -> Entries:
    """Of each parent that fires at most one child."""
    child = law.first_child[parents.feature][:, None] + torch.arange(branching)
    common = (factors[parents.token][:, None] * law.factors[child]).sum(dim=2)
    fires = torch.rand(child.shape, generator=numbers) < law.probability(common, child)
    value = law.magnitude(child, numbers) * fires
    place = torch.rand(child.shape, generator=numbers).masked_fill(value == 0, -1.0)
    kept = place.argmax(dim=1, keepdim=True)
    value = value.gather(1, kept)[:, 0] * parents.value / law.mean[parents.feature]
    fires = value > 0
    return Entries(parents.token[fires], child.gather(1, kept)[fires, 0], value[fires])


def _outside(law: BenchLaw, factors: Float[Tensor, "N R"], first: int, numbers: torch.Generator) -> Entries:
    """The features from number `first` on, which belong to no tree.

    On token t feature i has points of a Poisson process of rate μ = -log(1 - q), q its probability there; it fires
    where there is any. Points are drawn at each feature's highest rate in a stretch of tokens and kept in proportion
    to μ.
    """
    n = len(law.own)
    common = factors @ law.factors[first:].T
    own = torch.arange(first, n)
    most = common.view(len(common) // _STRETCH, _STRETCH, n - first).amax(dim=1)
    highest = _rate(law.probability(most, own)).flatten()
    points = torch.poisson(_STRETCH * highest, generator=numbers).long()
    cell = torch.arange(len(highest)).repeat_interleave(points)  # a stretch and a feature
    feature = first + cell % max(1, n - first)
    token = cell // max(1, n - first) * _STRETCH + torch.randint(_STRETCH, cell.shape, generator=numbers)
    rate = _rate(law.probability(common[token, feature - first], feature))
    kept = torch.rand(cell.shape, generator=numbers).double() * highest[cell] < rate
    fires = (token[kept] * n + feature[kept]).unique()
    return _firing(law, fires // n, fires % n, numbers)


def _rate(probability: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    return -torch.log1p(-probability.clamp_max(1 - 1e-12))


@lru_cache(maxsize=2)
def _law(truth: BenchActivations) -> BenchLaw:
    n = truth.n_features
    marginal = _marginal(truth)
    own, first_child = marginal.clone(), torch.full((n,), -1)
    start, stop = 0, truth.roots
    for _ in range(truth.depth):
        end = stop + truth.branching * (stop - start)
        first_child[start:stop] = torch.arange(stop, end, truth.branching)
        share = marginal[stop:end].view(-1, truth.branching) / marginal[start:stop, None]
        own[stop:end] = (share * (1 + share.sum(dim=1, keepdim=True) - share)).clamp_max(1).flatten()
        start, stop = stop, end
    numbers = generator("synthsaebench law", truth.seed)
    factors = truth.correlation_scale * torch.randn(n, truth.correlation_rank, generator=numbers)
    shared = factors.square().sum(dim=1, keepdim=True)
    factors = torch.where(shared > _MOST_SHARED, factors * (_MOST_SHARED / shared).sqrt(), factors)
    spread = (SPREAD_MEAN + SPREAD_SD * torch.randn(n, generator=numbers)).abs()
    return BenchLaw(
        marginal=marginal,
        own=own,
        factors=factors,
        threshold=torch.special.ndtri(1 - own),
        alone=(1 - factors.double().square().sum(dim=1)).sqrt(),
        mean=torch.linspace(FIRST_MEAN, LAST_MEAN, n),
        spread=spread,
        first_child=first_child,
    )


def _marginal(truth: BenchActivations) -> Float[Tensor, " A"]:
    r = torch.arange(1, truth.n_features + 1, dtype=torch.float64) ** -truth.frequency_exponent
    place = (r - r[-1]) / (r[0] - r[-1])
    return truth.least_frequent + (truth.most_frequent - truth.least_frequent) * place


@lru_cache(maxsize=2)
def _counted(truth: BenchActivations) -> Float[Tensor, " A"]:
    counts = torch.zeros(truth.n_features, dtype=torch.int64)
    for number in range(_COUNTED):
        counts += truth.codes(generator("synthsaebench frequencies", truth.seed, number)).counts()
    return counts.double() / (_COUNTED * BLOCK)


@lru_cache(maxsize=2)
def _nearly_orthogonal(n: int, d: int, seed: int) -> Float[Tensor, "A D"]:
    """Unit rows with the least Σ cos² between them: orthogonal ones where there is room, else a tight frame, which
    alternating projections lead to (Tropp et al. 2005): to the nearest rows with WᵀW in proportion to 1, to norm 1."""
    rows = random_unit_rows(n, d, seed)
    if n <= d:
        return torch.linalg.qr(rows.T)[0].T.contiguous()
    for _ in range(_PROJECTIONS):
        values, vectors = torch.linalg.eigh((rows.T @ rows).double())
        rows = rows @ ((vectors / values.sqrt()) @ vectors.T).float()
        rows = rows / rows.norm(dim=1, keepdim=True)
    return rows
