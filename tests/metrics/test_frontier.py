"""Curves in log L0 against a constrained least squares, their differences against what is known, false verdicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sae_cli.metrics.contrast import Verdict
from sae_cli.metrics.frontier import Curve, OfSeed, at_equal_l0, fitted
from sae_cli.metrics.row_sums import RowPlaces, RowSums
from tests.known import present


@pytest.mark.parametrize("sign", [1, -1])
def test_the_fit_is_the_nearest_monotone_curve_without_increasing_returns(sign):
    rng = np.random.default_rng(sign + 1)
    x = np.sort(rng.uniform(1, 4, 8))
    y = sign * (1 - np.exp(-x)) + rng.normal(0, 0.03, 8)
    found = np.array([fitted(x, y, sign).at(each) for each in x])
    slopes = sign * np.diff(found) / np.diff(x)
    assert (slopes >= -1e-9).all()
    assert (np.diff(slopes) <= 1e-9).all()

    def misfit(values):
        return ((sign * values - y) ** 2).sum()

    constraints = [
        {"type": "ineq", "fun": lambda v: np.diff(v) / np.diff(x)},
        {"type": "ineq", "fun": lambda v: -np.diff(np.diff(v) / np.diff(x))},
    ]
    best = minimize(misfit, np.linspace(0, 1, 8), constraints=constraints, options={"ftol": 1e-14, "maxiter": 1000})
    assert misfit(sign * found) == pytest.approx(best.fun, rel=1e-4)
    assert found == pytest.approx(sign * best.x, abs=1e-3)


def test_points_on_a_concave_curve_are_kept_and_the_order_does_not_matter():
    x = np.array([3.0, 1.0, 2.0, 2.5, 1.5, 3.5])
    curve = fitted(x, np.sqrt(x), 1)
    assert [curve.at(each) for each in x] == pytest.approx(np.sqrt(x))
    assert curve.at(1.25) == pytest.approx((1 + np.sqrt(1.5)) / 2)
    assert curve.at(0.5) == pytest.approx(1)
    assert curve.at(9) == pytest.approx(np.sqrt(3.5))
    assert (curve.has(1), curve.has(0.99)) == (True, False)


def test_the_mean_along_a_curve():
    curve = Curve(np.array([0.0, 1.0, 2.0]), 1.0, np.array([1.0, 1.0]), 1)
    x = np.linspace(0.3, 1.9, 100_001)
    assert curve.mean(0.3, 1.9) == pytest.approx(np.mean([curve.at(each) for each in x]), abs=1e-5)


DOCUMENTS = np.repeat(np.arange(24), 2)


def dictionary(rng, log_l0, figure, level):
    """Sums of 48 rows of 100 positions: so many features a token, and a figure about which documents differ."""
    n = len(DOCUMENTS)
    rows = RowPlaces(torch.as_tensor(DOCUMENTS), torch.arange(n))
    own = rng.normal(0, 0.01, n)
    return RowSums.of(
        rows,
        positions=torch.full((n,), 100.0).double(),
        active=torch.full((n,), 100.0 * np.exp(log_l0)).double(),
        y=torch.as_tensor(100 * (figure + level[DOCUMENTS] + own)).double(),
    )


def mean(s):
    return s["y"] / s["positions"]


def seeds_of(rng, n, ahead=0.0, of_seed=0.02, swept=False):
    """A is ahead of the curve √(log L0) by so much; seeds and documents shift A and its sweep apart."""
    found = []
    for _ in range(n):
        level = rng.normal(0, 0.2, DOCUMENTS.max() + 1)
        x = np.linspace(1, 4, 7) + rng.uniform(-0.05, 0.05, 7)
        b = [dictionary(rng, each, np.sqrt(each), level) for each in x]
        shift = ahead + rng.normal(0, of_seed)
        at = x + 0.1 if swept else [2.3]
        found.append(OfSeed([dictionary(rng, each, np.sqrt(each) + shift, level) for each in at], b))
    return found


@pytest.mark.parametrize("swept", [False, True])
def test_a_known_difference_is_found(swept):
    found = present(at_equal_l0(seeds_of(np.random.default_rng(0), 3, ahead=0.3, swept=swept), mean, True, 0.1))
    assert found.effect == pytest.approx(0.3, abs=0.05)
    assert (found.seeds, found.documents) == (3, 24)
    assert found.verdict is Verdict.A_HIGHER


def test_an_l0_that_the_sweep_does_not_reach_has_no_difference():
    rng = np.random.default_rng(0)
    (only,) = seeds_of(rng, 1)
    beyond = dictionary(rng, 4.2, 2.0, np.zeros(24))
    assert at_equal_l0([only._replace(a=[beyond])], mean, True, 0.1) is None


def test_one_seed_has_an_interval_over_documents_and_no_verdict():
    found = present(at_equal_l0(seeds_of(np.random.default_rng(0), 1, ahead=0.3), mean, True, 0.1))
    assert found.interval is not None
    assert found.verdict is Verdict.ONE_PAIR


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3])
def test_equal_recipes_are_rarely_told_apart(seeds):
    """At most 5 % and two standard errors of 200."""
    rng = np.random.default_rng(seeds)
    differ = (Verdict.A_HIGHER, Verdict.B_HIGHER)
    told = [present(at_equal_l0(seeds_of(rng, seeds), mean, True, 0.01)).verdict in differ for _ in range(200)]
    assert sum(told) <= 200 * (0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5)
