"""Known truths with structure: against their definition written down in numpy, and what was published of them."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from sae_cli.activations.compositional import CompositionalActivations
from sae_cli.activations.hierarchy import HierarchyActivations
from sae_cli.activations.known_truth import known_truth
from sae_cli.activations.truth import tight_frame
from sae_cli.config.data import CompositionalData, HierarchyData, SyntheticData
from sae_cli.config.split import Split
from sae_cli.errors import RequestError

SMALL = HierarchyData(d=32, n_features=40, roots=2, branching=3, depth=2, rank=4, correlation=0.4)
PUBLISHED = HierarchyData(d=768, n_features=16_384, roots=128, branching=4, depth=3)
KINDS = [
    SMALL,
    CompositionalData(d=24, attributes=3, values=5, objects=30, noise=0.1),
    SyntheticData(d=16, n_features=20),
]


def fires(truth, blocks):
    return torch.cat([each.fires for each in islice(truth.coded_blocks(Split.train), blocks)])


@pytest.mark.parametrize("config", KINDS, ids=lambda each: type(each).__name__)
def test_reading_may_begin_anywhere_and_splits_are_disjoint(config):
    truth = known_truth(config)
    whole = torch.cat([each.activations for each in islice(truth.blocks(Split.train), 3)])
    begun = truth.size + 7
    later = torch.cat([each.activations for each in islice(known_truth(config).blocks(Split.train, begun), 2)])
    assert torch.equal(later, whole[begun : begun + len(later)])
    held_out = next(truth.coded_blocks(Split.held_out))
    fired = held_out.fires.any(dim=1)  # tokens on which nothing does are alike
    assert not (whole[: truth.size] == held_out.block.activations)[fired].all(dim=1).any()
    other = type(config)(**{**vars(config), "seed": 1})
    assert not torch.equal(next(known_truth(other).blocks(Split.train)).activations, whole[: truth.size])


@pytest.mark.parametrize("config", KINDS, ids=lambda each: type(each).__name__)
def test_activations_are_sums_of_what_fires(config):
    """By least squares on what is said to fire nothing is left but noise and the bias."""
    truth = known_truth(config)
    (first,) = islice(truth.coded_blocks(Split.train), 1)
    x, directions = first.block.activations.double(), truth.directions().double()
    if isinstance(truth, HierarchyActivations):
        x = x - truth._parts.bias
    left = []
    for row, own in zip(x[:50], first.fires[:50], strict=True):
        basis = directions[own].T
        found = torch.linalg.lstsq(basis, row[:, None]).solution if own.any() else torch.zeros(0, 1).double()
        left.append(float((row - (basis @ found)[:, 0]).square().mean()))
    assert np.mean(left) < 1.2 * getattr(config, "noise", 0.0) ** 2 + 1e-10
    assert directions.norm(dim=1) == pytest.approx(1.0)


@pytest.mark.parametrize("config", KINDS, ids=lambda each: type(each).__name__)
def test_frequencies_are_those_of_the_stream(config):
    truth = known_truth(config)
    counted = fires(truth, 40 if isinstance(truth, HierarchyActivations) else 12)
    p, n = truth.frequencies(), len(counted)
    error = (counted.double().mean(dim=0) - p).abs()
    assert (error < 5 * (2 * p * (1 - p) / n).sqrt() + 5 / n).all()


def simulated(truth, n, rng):
    """The definition of the hierarchy in float64, token by token and family by family."""
    p = np.array([0.0] * truth.n_features)
    ranks = np.arange(1, truth.n_features + 1) ** -truth.exponent
    for i, r in enumerate(ranks):
        share = (r - ranks[-1]) / (ranks[0] - ranks[-1])
        p[i] = truth.least_frequent + (truth.most_frequent - truth.least_frequent) * share
    parents = truth.parents().tolist()
    own = p.copy()
    for child, parent in enumerate(parents):
        if parent >= 0:
            siblings = [i for i, other in enumerate(parents) if other == parent and i != child]
            own[child] = min(1.0, p[child] / p[parent] * (1 + sum(p[i] / p[parent] for i in siblings)))
    factor = truth._parts.factor.double().numpy()
    scale = np.sqrt(1 - (factor**2).sum(axis=1))
    latent = rng.normal(size=(n, truth.rank)) @ factor.T + scale * rng.normal(size=(n, truth.n_features))
    fire = latent > norm.ppf(1 - own)
    mean = np.linspace(truth.first_magnitude, truth.last_magnitude, truth.n_features)
    values = fire * np.maximum(0, mean + truth._parts.spread.double().numpy() * rng.normal(size=fire.shape))
    for token in range(n):
        for parent in range(truth.n_features):
            children = [i for i, other in enumerate(parents) if other == parent]
            values[token, children] *= values[token, parent] / mean[parent]
            there = [i for i in children if values[token, i] > 0]
            if len(there) > 1:
                kept = rng.choice(there)
                values[token, [i for i in there if i != kept]] = 0
    return values


def test_the_hierarchy_against_its_definition():
    truth = known_truth(SMALL)
    assert isinstance(truth, HierarchyActivations)
    n = 6000
    expected = simulated(truth, n, np.random.default_rng(0))
    parents = truth.parents()
    values = torch.cat([truth._values(torch.Generator().manual_seed(seed)) for seed in range(20)]).double().numpy()
    for found, wanted in ((values > 0, expected > 0), (values, expected)):
        error = np.abs(found.mean(axis=0) - wanted.mean(axis=0))
        spread = np.sqrt(wanted.var(axis=0) / n + found.var(axis=0) / len(found))
        assert (error < 5 * spread + 2e-3).all()
    firing = values > 0
    for child, parent in enumerate(parents.tolist()):
        if parent >= 0:
            assert not (firing[:, child] & ~firing[:, parent]).any()
    of_one = [i for i, parent in enumerate(parents.tolist()) if parent == 0]
    assert firing[:, of_one].sum(axis=1).max() == 1


def test_roots_fire_together_as_the_copula_says():
    truth = known_truth(SMALL)
    assert isinstance(truth, HierarchyActivations)
    firing = fires(truth, 60).double()
    factor, p = truth._parts.factor.double(), truth.own_probabilities()
    correlation = float(factor[0] @ factor[1])
    both = multivariate_normal([0, 0], [[1, correlation], [correlation, 1]])
    wanted = both.cdf([-norm.ppf(1 - float(p[0])), -norm.ppf(1 - float(p[1]))])
    found = float((firing[:, 0] * firing[:, 1]).mean())
    assert found == pytest.approx(wanted, abs=5 * (wanted / len(firing)) ** 0.5)
    assert abs(correlation) > 0.05


def test_compositional_objects():
    config = CompositionalData(d=24, attributes=3, values=5, objects=30)
    truth = known_truth(config)
    assert isinstance(truth, CompositionalActivations)
    counted = fires(truth, 4)
    assert (counted.unflatten(1, (3, 5)).sum(dim=2) == 1).all()
    seen, number = counted.unique(dim=0, return_counts=True)
    assert len(seen) <= 30
    rank = np.arange(1, 31) ** -0.5
    assert float(number.max()) / len(counted) >= 0.8 * rank[0] / rank.sum()


def test_a_tight_frame():
    rows = torch.randn(96, 24, generator=torch.Generator().manual_seed(0))
    found = tight_frame(rows).double()
    squares = (found @ found.T).square()
    least = 96 * (96 - 24) / 24  # of the squares of all cosines between different rows (Welch 1974)
    assert float(squares.sum() - 96) == pytest.approx(least, rel=1e-4)
    few = tight_frame(rows[:20]).double()
    assert few @ few.T == pytest.approx(np.eye(20), abs=1e-5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (HierarchyData(n_features=20), "expected at least 168, those of 8 trees"),
        (HierarchyData(most_frequent=0.1, least_frequent=0.2), "data.least_frequent=0.2: expected at most"),
        (HierarchyData(domains=["a"]), "has no documents"),
    ],
)
def test_refused(config, said):
    with pytest.raises(RequestError, match=said):
        known_truth(config)


@pytest.mark.slow
def test_synthsaebench_as_published():
    """L0 34 ± 1; exponent, hierarchy and correlation within 2 %."""
    truth = known_truth(PUBLISHED)
    assert isinstance(truth, HierarchyActivations)
    p = truth.marginals().numpy()
    assert (p[0], p[-1]) == pytest.approx((0.4, 5e-4))
    ranks = np.arange(1, 16_385)
    scale = (0.4 - 5e-4) / (1 - 16_384**-0.5)
    exponent = np.polyfit(np.log(ranks), np.log((p - 5e-4) / scale + 16_384**-0.5), 1)[0]
    assert exponent == pytest.approx(-0.5, rel=0.02)
    assert [(level.first, level.size) for level in truth.levels] == [(128, 512), (640, 2048), (2688, 8192)]
    counted = fires(truth, 48)
    assert 33 <= float(counted.sum()) / len(counted) <= 35
    frequency = counted.double().mean(dim=0).numpy()
    outside, roots = slice(10_880, None), slice(0, 128)
    for free in (outside, roots):
        assert frequency[free].sum() == pytest.approx(p[free].sum(), rel=0.02)
    parents = truth.parents()
    inside = parents >= 0
    assert not (counted[:, inside] & ~counted[:, parents[inside]]).any()
    families = counted[:, 128:640].unflatten(1, (-1, 4)).sum(dim=2)
    assert int(families.max()) == 1
    factor = truth._parts.factor[:4000].double()
    correlation = factor @ factor.T
    off = correlation[~torch.eye(4000, dtype=torch.bool)]
    assert float(off.square().mean().sqrt()) == pytest.approx(0.1**2 * 25**0.5, rel=0.02)
