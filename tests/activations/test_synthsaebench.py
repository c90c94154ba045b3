"""The law of SynthSAEBench, against its definition and against a dense simulation in float64 by another route."""

from __future__ import annotations

from functools import cache
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from sae_cli.activations.synthsaebench import BenchActivations
from sae_cli.activations.truth import BLOCK
from sae_cli.config.data import BenchData
from sae_cli.config.split import Split

SMALL: dict[str, Any] = {"d": 64, "n_features": 256, "roots": 2}


@cache
def truth(**changes):
    return BenchActivations.of(BenchData(**changes))


def dense(bench, n_blocks, split=Split.train):
    return np.concatenate([each.numpy() for each in codes(bench, n_blocks, split)])


def codes(bench, n_blocks, split=Split.train):
    for number in range(n_blocks):
        found = bench.coded_block(split, number).codes
        yield found.to_dense(found.values)


class Tree(NamedTuple):
    """Parent of each feature, -1 without, and the children of each that has some, parents breadth first."""

    parent: np.ndarray
    children: dict[int, list[int]]


def tree_of(config):
    """Breadth first from the roots, one feature after another."""
    parent, children, following = np.full(config.n_features, -1), {}, config.roots
    level = list(range(config.roots))
    for _ in range(config.depth):
        below = []
        for each in level:
            children[each] = list(range(following, following + config.branching))
            parent[children[each]] = each
            below += children[each]
            following += config.branching
        level = below
    return Tree(parent, children)


def marginals(config):
    r = np.arange(1, config.n_features + 1) ** -config.frequency_exponent
    return config.least_frequent + (config.most_frequent - config.least_frequent) * (r - r.min()) / (r.max() - r.min())


def own_probability(config):
    """p / p_parent · (1 + Σ p_sibling / p_parent) of children, at most 1."""
    p, found = marginals(config), marginals(config).copy()
    for parent, children in tree_of(config).children.items():
        for child in children:
            others = sum(p[each] for each in children if each != child)
            found[child] = min(1.0, p[child] / p[parent] * (1 + others / p[parent]))
    return found


def simulated(bench, config, n, rng):
    """True features of n tokens: every latent is drawn, then the tree is gone through parent by parent."""
    law = bench.law()
    A, spread = law.factors.double().numpy(), law.spread.double().numpy()
    mean = np.linspace(5, 4, config.n_features)
    alone = np.sqrt(1 - np.square(A).sum(axis=1))
    latent = rng.standard_normal((n, A.shape[1])) @ A.T + rng.standard_normal((n, len(A))) * alone
    fires = latent > norm.isf(own_probability(config))
    f = fires * np.maximum(0, mean + spread * rng.standard_normal((n, len(A))))
    for parent, children in tree_of(config).children.items():
        places = rng.random((n, len(children))) * (f[:, children] > 0)
        kept = places == places.max(axis=1, keepdims=True)
        f[:, children] *= kept * f[:, [parent]] / mean[parent]
    return f


def assert_same_share(one, other, z=5.0):
    """Shares of columns of two samples differ by no more than chance."""
    p = (one.mean(axis=0) * len(one) + other.mean(axis=0) * len(other)) / (len(one) + len(other))
    se = np.sqrt(p * (1 - p) * (1 / len(one) + 1 / len(other)))
    assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) <= z * se + 1e-12).all()


@pytest.fixture(scope="module")
def both():
    """True features of the small preset as they are made, and as the dense simulation makes them."""
    config = BenchData(**SMALL)
    return dense(truth(**SMALL), 16), simulated(truth(**SMALL), config, 16 * BLOCK, np.random.default_rng(0))


def test_features_fire_as_in_a_dense_simulation(both):
    ours, theirs = both
    assert_same_share(ours > 0, theirs > 0)
    pairs = list(combinations(range(24), 2))
    together = [np.stack([(f[:, i] > 0) & (f[:, j] > 0) for i, j in pairs], axis=1) for f in both]
    assert_same_share(together[0], together[1])
    l0 = [(f > 0).sum(axis=1) for f in both]
    assert l0[0].mean() == pytest.approx(l0[1].mean(), rel=0.01)
    assert l0[0].var() == pytest.approx(l0[1].var(), rel=0.03)


def test_magnitudes_are_those_of_a_dense_simulation(both):
    ours, theirs = both
    often = ((ours > 0).sum(axis=0) > 1000) & ((theirs > 0).sum(axis=0) > 1000)
    assert often.sum() > 30
    for power in (1, 2):
        of_each = [
            (f[:, often] ** power).sum(axis=0) / (f[:, often] > 0).sum(axis=0) for f in (ours.astype(float), theirs)
        ]
        np.testing.assert_allclose(*of_each, rtol=0.02 * power * 2)


def test_children_fire_with_their_parent_and_alone_among_siblings(both):
    f = both[0]
    for parent, children in tree_of(BenchData(**SMALL)).children.items():
        siblings = f[:, children] > 0
        assert siblings.sum(axis=1).max() <= 1
        assert not siblings[f[:, parent] == 0].any()


def test_frequencies_without_correlation_have_a_closed_form():
    """A child that fires by itself is kept with probability E[1 / (1 + siblings that fire by themselves)]."""
    config = BenchData(**SMALL, correlation_scale=0)
    bench = truth(**SMALL, correlation_scale=0)
    own, expected = own_probability(config), marginals(config).copy()
    silent = norm.cdf(-np.linspace(5, 4, 256) / bench.law().spread.double().numpy())  # a magnitude below 0
    own, expected = own * (1 - silent), expected * (1 - silent)
    for parent, children in tree_of(config).children.items():
        for child in children:
            number = np.array([1.0])  # the distribution of siblings that fire
            for each in children:
                if each != child:
                    number = np.convolve(number, [1 - own[each], own[each]])
            expected[child] = expected[parent] * own[child] * (number / np.arange(1, len(number) + 1)).sum()
    fires = dense(bench, 16) > 0
    se = np.sqrt(expected * (1 - expected) / len(fires))
    assert (np.abs(fires.mean(axis=0) - expected) < 5 * se + 1e-9).all()


def test_activations_are_sums_of_directions():
    coded = truth(**SMALL).coded_block(Split.train, 3)
    W, bias = truth(**SMALL).directions().double(), truth(**SMALL).bias().double()
    expected = coded.codes.to_dense(coded.codes.values).double() @ W + bias
    torch.testing.assert_close(coded.block.activations.double(), expected, atol=1e-4, rtol=0)
    assert bias.norm().item() == pytest.approx(0.5)
    torch.testing.assert_close(W.norm(dim=1), torch.ones(256).double())


def test_directions_are_a_tight_frame_or_orthogonal():
    """Σ cos² over all pairs is the least there can be: n² / d, Welch's bound, or n."""
    for n, d in ((256, 64), (64, 64), (40, 64)):
        W = truth(d=d, n_features=n, roots=0).directions().double()
        least = max(n, n**2 / d)
        assert (W @ W.T).square().sum().item() == pytest.approx(least, rel=2e-3 if n > d else 1e-6)


def test_a_block_does_not_depend_on_where_reading_starts_and_splits_are_disjoint():
    bench = truth(**SMALL)
    stream = bench.blocks(Split.train)
    blocks = [next(stream) for _ in range(3)]
    assert torch.equal(next(bench.blocks(Split.train, 2 * BLOCK)).activations, blocks[2].activations)
    later = next(bench.blocks(Split.train, 2 * BLOCK + 100))
    assert torch.equal(later.activations, blocks[2].activations[100:])
    streams = []
    for split in Split:
        blocks = [bench.coded_block(split, number).block.activations.numpy() for number in range(3)]
        rows = {row.tobytes() for row in np.concatenate(blocks)}
        streams.append(rows - {bench.bias().numpy().tobytes()})  # tokens on which nothing fires
    assert not streams[0] & streams[1]
    assert min(map(len, streams)) > 1.5 * BLOCK


def test_coded_blocks_are_the_blocks_with_their_codes():
    bench = truth(**SMALL)
    coded = list(bench.coded_blocks(Split.held_out, BLOCK + 10))
    assert [each.block.n for each in coded] == [each.codes.n_rows for each in coded] == [BLOCK, 10]
    whole = list(bench.coded_blocks(Split.held_out, 2 * BLOCK))[1]
    assert torch.equal(coded[1].block.activations, whole.block.activations[:10])
    dense = whole.codes.to_dense(whole.codes.values)[:10]
    assert torch.equal(coded[1].codes.to_dense(coded[1].codes.values), dense)


def test_counted_frequencies_are_those_of_the_stream(both):
    counted = truth(**SMALL).frequencies().numpy()
    share = (both[0] > 0).mean(axis=0)
    se = np.sqrt(2 * share * (1 - share) / len(both[0]))
    assert (np.abs(counted - share) <= 5 * se + 1e-12).all()


@pytest.mark.parametrize("shape", [{"roots": 0}, {"depth": 0}, {"roots": 51, "depth": 1}, {"branching": 1}])
def test_other_shapes_of_the_tree(shape):
    """No trees, roots alone, trees that take every feature but some, and only children."""
    bench, config = truth(**SMALL | shape), BenchData(**SMALL | shape)
    ours, theirs = dense(bench, 4), simulated(bench, config, 4 * BLOCK, np.random.default_rng(1))
    assert_same_share(ours > 0, theirs > 0)


@pytest.fixture(scope="module")
def large():
    """True features of the published preset, as sparse entries: (token, feature) of 131,072 tokens."""
    bench = truth()
    token, feature = [], []
    for number in range(32):
        found = bench.coded_block(Split.train, number).codes
        token.append(found.rows.numpy() + number * BLOCK)
        feature.append(found.indices.numpy())
    return np.concatenate(token), np.concatenate(feature), 32 * BLOCK


@pytest.mark.slow
def test_the_published_preset_has_its_l0_and_its_zipf_law(large):
    _, feature, n = large
    config = BenchData()
    assert len(feature) / n == pytest.approx(34, abs=1)
    p = marginals(config)
    np.testing.assert_allclose(truth().law().marginal.numpy(), p, rtol=1e-12)
    assert p.sum() == pytest.approx(59.1, abs=0.1) and p.max() == pytest.approx(0.4) and p.min() == pytest.approx(5e-4)
    share = np.bincount(feature, minlength=config.n_features) / n
    silent = norm.cdf(-np.linspace(5, 4, config.n_features) / truth().law().spread.numpy())
    groups = [range(i, i + 16) for i in range(0, 128, 16)] + [range(i, i + 688) for i in range(10_880, 16_384, 688)]
    expected = np.array([(p * (1 - silent))[each].sum() for each in groups])
    found = np.array([share[each].sum() for each in groups])
    np.testing.assert_allclose(found, expected, rtol=0.02)
    rank = np.array([np.mean(each) + 1 for each in groups])
    above = (found / [len(each) for each in groups] - 5e-4) + 0.3995 / (128 - 1)  # what is left is ∝ rank^-1/2
    slope = np.polyfit(np.log(rank), np.log(above), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.02)


@pytest.mark.slow
def test_the_trees_of_the_published_preset(large):
    token, feature, n = large
    config, tree = BenchData(), tree_of(BenchData())
    assert [len(range(*each)) for each in ((0, 128), (128, 640), (640, 2688), (2688, 10_880))] == [128, 512, 2048, 8192]
    assert (tree.parent[2688:10_880] == np.repeat(np.arange(640, 2688), 4)).all()
    key = token.astype(np.int64) * config.n_features
    children = tree.parent[feature] >= 0
    parents = key[children] + tree.parent[feature[children]]
    assert np.isin(parents, key + feature).all()  # no child without its parent
    assert len(np.unique(parents)) == len(parents)  # and no two of one parent
    theirs = simulated(truth(), config, 8192, np.random.default_rng(2)) > 0
    borders = [0, 128, 640, 2688, 10_880, 16_384]
    per_level = np.histogram(feature, borders)[0] / n
    dense_level = np.array([theirs[:, a:b].sum(axis=1).mean() for a, b in pairwise(borders)])
    np.testing.assert_allclose(per_level[1:4] / per_level[:3], dense_level[1:4] / dense_level[:3], rtol=0.02)


@pytest.mark.slow
def test_the_correlations_of_the_published_preset(large):
    """The excess of pairs of roots that fire together over chance, against Gaussian latents with covariance A·Aᵀ."""
    token, feature, n = large
    law = truth().law()
    A = law.factors.double().numpy()
    cosines = (A[:2048] @ A[2048:4096].T).ravel()
    assert np.sqrt(np.mean(cosines**2)) == pytest.approx(0.1**2 * 25**0.5, rel=0.02)
    assert np.square(A).sum(axis=1).mean() == pytest.approx(0.25, rel=0.02)
    roots = 32
    fires = np.zeros((n, roots), dtype=np.float32)
    fires[token[feature < roots], feature[feature < roots]] = 1
    silent = norm.cdf(-np.linspace(5, 4, 16_384) / law.spread.double().numpy())[:roots]
    p = marginals(BenchData())[:roots]
    covariance = np.cov(fires.T)
    expected, found = [], []
    for i, j in combinations(range(roots), 2):
        covariances = np.array([[1, A[i] @ A[j]], [A[i] @ A[j], 1]])
        gaussian = multivariate_normal(np.zeros(2), covariances)  # pyright: ignore (its stub has an int for cov)
        together = gaussian.cdf(-norm.isf(p[[i, j]]))
        expected.append((together - p[i] * p[j]) * (1 - silent[i]) * (1 - silent[j]))
        found.append(covariance[i, j])
    slope = np.dot(expected, found) / np.dot(expected, expected)
    assert slope == pytest.approx(1, abs=0.02)
