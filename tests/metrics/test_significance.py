"""Errors by document have their coverage, discoveries keep their rate, permuted labels tell nothing."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from sae_cli.metrics.ranked import RankedFeatures
from sae_cli.metrics.significance import LEAST_DOCUMENTS, discoveries, errors_by_document, interval, p_values, permuted


def drawn(rng, documents=40, size=12):
    """A feature that differs from document to document and by class; the true AUROC is that of many documents."""
    group = np.repeat(np.arange(documents), size)
    y = rng.random(len(group)) < 0.4
    values = rng.normal(size=documents)[group] + rng.normal(size=len(group)) + 0.8 * y
    return values, y, group


def test_intervals_cover_the_truth():
    rng = np.random.default_rng(0)
    values, y, _ = drawn(rng, documents=4000)
    truth = float(RankedFeatures.of_dense(values[:, None]).auroc(y)[0])
    covered = 0
    for _ in range(300):
        values, y, group = drawn(rng)
        ranked = RankedFeatures.of_dense(values[:, None])
        found = interval(float(ranked.auroc(y)[0]), ranked.influence(ranked.curves(y), y, group, 40)[0])
        assert found.low is not None and found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.91 <= covered / 300 <= 0.985


def test_too_few_documents_have_no_error():
    assert interval(0.7, np.ones(LEAST_DOCUMENTS - 1)) == (None, None, None)
    assert np.isnan(errors_by_document(np.ones((3, LEAST_DOCUMENTS - 1)))).all()
    assert p_values(np.array([0.9]), 0.5, np.array([np.nan]), 3).tolist() == [1.0]


def test_discoveries_are_those_of_scipy():
    rng = np.random.default_rng(1)
    p = np.concatenate([rng.random(500), rng.random(40) * 1e-4]).reshape(27, 20)
    expected = false_discovery_control(p.ravel()) <= 0.05
    assert (discoveries(p) == expected.reshape(p.shape)).all()
    assert not discoveries(np.ones(5)).any()


@pytest.mark.parametrize("seed", range(5))
def test_permuted_labels_keep_their_strata_and_tell_nothing(seed):
    rng = np.random.default_rng(seed)
    values, y, group = drawn(rng, documents=100)
    stratum = rng.integers(0, 3, len(y))
    y |= (values > 2) & (stratum == 1)
    found = [permuted(y, group, stratum, rng) for _ in range(200)]
    for each in found:
        assert np.bincount(stratum[each]).tolist() == np.bincount(stratum[y]).tolist()
    ranked = RankedFeatures.of_dense((values - 0.5 * stratum)[:, None])
    null = [float(ranked.auroc(each)[0]) for each in found]
    of_strata = [float(ranked.auroc(np.concatenate([y, [False]])[:-1])[0]), np.mean(null)]
    assert abs(of_strata[1] - 0.5) < 0.1 and of_strata[0] > np.quantile(null, 0.99)


def test_labels_of_a_document_stay_together():
    group = np.repeat(np.arange(20), 10)
    y = group % 2 == 0
    found = permuted(y, group, np.zeros(200, dtype=np.int64), np.random.default_rng(0))
    mixed = sum(0 < found[group == g].sum() < 10 for g in range(20))
    assert found.sum() == 100 and not (found == y).all()
    changes = [int(np.abs(np.diff(found[group == g].astype(int))).sum()) for g in range(20)]
    assert mixed <= 20 and max(changes) <= 1  # a block is shifted, not shuffled
