"""AUROC, average precision, thresholds and errors of all features at once, against scikit-learn feature by feature."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import mannwhitneyu
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from sae_cli.metrics.ranked import RankedFeatures


def data(seed, prevalence=0.5, n=600, n_features=12):
    """Sparse features with many ties; the first is dead, the second always on."""
    rng = np.random.default_rng(seed)
    is_positive = rng.random(n) < prevalence
    is_positive[:2] = True, False
    on = rng.random((n, n_features)) < rng.uniform(0.02, 0.9, n_features) * (0.6 + 0.4 * is_positive[:, None])
    values = np.where(on, np.round(rng.gamma(2, 1, (n, n_features)) + 0.3 * is_positive[:, None], 1) + 0.1, 0)
    values[:, 0], values[:, 1] = 0, rng.random(n)
    return values.astype(np.float32), is_positive


def sparse(values):
    entries = csr_matrix(values).tocoo()
    return RankedFeatures(entries.row, entries.col, entries.data, values.shape)


@pytest.mark.parametrize("prevalence", [0.01, 0.5])
@pytest.mark.parametrize("make", [sparse, RankedFeatures.of_dense])
def test_figures_are_those_of_scikit_learn(make, prevalence):
    values, is_positive = data(1, prevalence, n=3000 if prevalence < 0.1 else 600)
    ranked = make(values)
    curves = ranked.curves(is_positive)
    for j in range(values.shape[1]):
        assert ranked.auroc(is_positive)[j] == pytest.approx(roc_auc_score(is_positive, values[:, j]), abs=1e-12)
        expected = average_precision_score(is_positive, values[:, j])
        assert ranked.average_precision(curves)[j] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.01, 0.5])
def test_thresholds_are_the_best_there_are(prevalence):
    values, is_positive = data(2, prevalence, n=3000 if prevalence < 0.1 else 600)
    ranked = sparse(values)
    thresholds, best = ranked.best_thresholds(ranked.curves(is_positive))
    tp, fp = ranked.at_thresholds(thresholds, is_positive)
    assert thresholds[0] == np.inf and best[0] == 0 and tp[0] == fp[0] == 0
    for j in range(1, values.shape[1]):
        tried = {t: f1_score(is_positive, values[:, j] >= t) for t in np.unique(values[:, j]) if t > 0}
        assert best[j] == pytest.approx(max(tried.values()), abs=1e-12)
        assert f1_score(is_positive, values[:, j] >= thresholds[j]) == pytest.approx(best[j], abs=1e-12)
        assert thresholds[j] > 0 and thresholds[j] not in values[:, j]
        taken = values[:, j] >= thresholds[j]
        assert tp[j] / (tp[j] + fp[j]) == pytest.approx(precision_score(is_positive, taken))
        assert tp[j] / is_positive.sum() == pytest.approx(recall_score(is_positive, taken))


def test_thresholds_of_a_least_recall():
    values, is_positive = data(3)
    ranked = sparse(values)
    thresholds, _ = ranked.best_thresholds(ranked.curves(is_positive), least_recall=0.8)
    for j, threshold in enumerate(thresholds):
        reached = (values[is_positive, j] > 0).mean()
        assert np.isfinite(threshold) == (reached >= 0.8)
        if np.isfinite(threshold):
            assert (values[is_positive, j] >= threshold).mean() >= 0.8


def test_auroc_is_that_of_mann_and_whitney():
    values, is_positive = data(4)
    found = sparse(values).auroc(is_positive)
    for j in range(values.shape[1]):
        statistic = mannwhitneyu(values[is_positive, j], values[~is_positive, j]).statistic
        assert found[j] == pytest.approx(statistic / is_positive.sum() / (~is_positive).sum(), abs=1e-12)


def test_influence_is_that_of_leaving_weight_out():
    """Of each document, by a finite difference: how AUROC changes if its tokens weigh a little more."""
    values, is_positive = data(5)
    ranked = sparse(values)
    group = np.random.default_rng(0).integers(0, 7, len(values))
    found = ranked.influence(ranked.curves(is_positive), is_positive, group, 7)
    assert found.sum(axis=1) == pytest.approx(0, abs=1e-10)
    step = 1e-4
    for g in range(7):
        weights = 1 + step * (group == g)
        for j in (1, 2, 5):
            more = roc_auc_score(is_positive, values[:, j], sample_weight=weights)
            change = (more - roc_auc_score(is_positive, values[:, j])) / step
            assert found[j, g] == pytest.approx(change, abs=2e-4)


def test_no_entries():
    none = np.zeros(0, dtype=np.int64)
    ranked = RankedFeatures(none, none, np.zeros(0, dtype=np.float32), (4, 3))
    is_positive = np.array([True, False, True, False])
    assert ranked.auroc(is_positive).tolist() == [0.5] * 3
    assert ranked.best_thresholds(ranked.curves(is_positive))[0].tolist() == [np.inf] * 3
