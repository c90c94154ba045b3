"""Logistic fits against scikit-learn's; the penalty by folds and by tuning against a search of its own."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as log_loss_of_sklearn

from sae_cli.metrics import logistic


def data(seed, n=400, k=6, prevalence=0.5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, k)) * rng.uniform(0.1, 3, k)
    y = x @ rng.normal(size=k) + rng.normal(size=n) > np.quantile(x[:, 0], 1 - prevalence) * 0 + (prevalence < 0.1) * 6
    y[:2] = True, False
    return x, y


@pytest.mark.parametrize("penalty", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("prevalence", [0.01, 0.5])
@pytest.mark.parametrize("k", [1, 6, 300])
def test_fits_are_those_of_scikit_learn(penalty, prevalence, k):
    x, y = data(0, k=k, prevalence=prevalence)
    peer = LogisticRegression(C=penalty, tol=1e-12, max_iter=20_000, solver="newton-cholesky").fit(x, y)
    found = logistic.fit(x, y, penalty)
    logits, expected = x @ found[:-1] + found[-1], peer.decision_function(x)
    assert found == pytest.approx([*peer.coef_[0], peer.intercept_[0]], rel=1e-6, abs=1e-6)
    assert logits == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert logistic.log_loss(logits, y) == pytest.approx(log_loss_of_sklearn(y, peer.predict_proba(x)[:, 1]), abs=1e-6)


def test_separable_classes():
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    found = logistic.fit(x, x[:, 0] > 0, 1e3)
    peer = LogisticRegression(C=1e3, tol=1e-12, max_iter=20_000).fit(x, x[:, 0] > 0)
    assert found == pytest.approx([peer.coef_[0, 0], peer.intercept_[0]], rel=1e-4, abs=1e-4)


def test_the_penalty_is_the_best_on_rows_left_out():
    x, y = data(3, k=40, n=160)
    folds = np.arange(160) % 5
    found = logistic.by_folds(x, y, folds)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    losses = []
    for penalty in logistic.PENALTIES:
        total = 0.0
        for fold in range(5):
            peer = LogisticRegression(C=penalty, tol=1e-10, max_iter=10_000).fit(z[folds != fold], y[folds != fold])
            total += log_loss_of_sklearn(y[folds == fold], peer.predict_proba(z[folds == fold])[:, 1]) * 32
        losses.append(total)
    assert found.penalty == logistic.PENALTIES[int(np.argmin(losses))]
    peer = LogisticRegression(C=found.penalty, tol=1e-12, max_iter=10_000).fit(z, y)
    assert found.logits(x) == pytest.approx(peer.decision_function(z), abs=1e-5)


def test_tuning_stops_where_it_gets_worse():
    x, y = data(4, k=60, n=200)
    found = logistic.by_tuning(x[:120], y[:120], x[120:], y[120:])
    center, scale = x[:120].mean(axis=0), x[:120].std(axis=0)
    losses = []
    for penalty in logistic.PENALTIES:
        w = logistic.fit((x[:120] - center) / scale, y[:120], penalty)
        losses.append(logistic.log_loss((x[120:] - center) / scale @ w[:-1] + w[-1], y[120:]))
    assert found.penalty == logistic.PENALTIES[int(np.argmin(losses))]
