"""Logistic regression with an L2 penalty, as scikit-learn defines it, and how strong the penalty should be.

    minimum over w, b of  ‖w‖²/2 + C · Σ log(1 + exp(-s (x·w + b))),   s = ±1 the class; b is not penalized

by Newton's method with halved steps where there are few columns, and by L-BFGS where there are many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

PENALTIES = tuple(10.0**power for power in range(-3, 4))
"""The values of C that are tried, the strongest penalty first."""

_FEW = 256
"""Columns up to which the Hessian is made."""
_STEPS, _HALVED = 100, 30
_EXACT, _ROUGH = 1e-14, 1e-7
"""Of what is minimized; the second where only a loss on other rows is looked at."""


class Regression(NamedTuple):
    """A linear classifier of standardized columns.

    Attributes:
        weights: of the columns [K].
        bias: what is added.
        center, scale: that each column is shifted and divided by first [K].
        penalty: C.
    """

    weights: np.ndarray
    bias: float
    center: np.ndarray
    scale: np.ndarray
    penalty: float

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The log-odds of the class for each row of x [N, K]."""
        direction, bias = self.in_units
        return x @ direction + bias

    @property
    def in_units(self) -> tuple[np.ndarray, float]:
        """The weights and the bias for columns as they are."""
        direction = self.weights / self.scale
        return direction, float(self.bias - self.center @ direction)


def fit(
    x: np.ndarray, y: np.ndarray, penalty: float, start: np.ndarray | None = None, tolerance: float = _EXACT
) -> np.ndarray:
    """The weights and, last, the bias [K + 1].

    Args:
        x: float64 [N, K].
        y: whether each row is of the class, bool [N]; both occur.
        penalty: C.
        start: where to begin [K + 1]; zeros without it.
        tolerance: how near the minimum it ends, as a share of what is minimized.
    """
    design = np.hstack([x, np.ones((len(x), 1))])
    signs = np.where(y, 1.0, -1.0)
    start = np.zeros(design.shape[1]) if start is None else start
    if design.shape[1] <= _FEW:
        return _newton(design, signs, penalty, start, tolerance)
    exact = tolerance <= _EXACT
    ends = {"ftol": 0.0, "gtol": 1e-8} if exact else {"ftol": tolerance, "gtol": 1e-5}
    options = {"maxiter": 5000, "maxfun": 10_000, "maxcor": 20, **ends}
    found = minimize(_value_and_gradient, start, (design, signs, penalty), jac=True, method="L-BFGS-B", options=options)
    return found.x


def _value_and_gradient(
    w: np.ndarray, design: np.ndarray, signs: np.ndarray, penalty: float
) -> tuple[float, np.ndarray]:
    margin = signs * (design @ w)
    value = penalty * np.logaddexp(0, -margin).sum() + w[:-1] @ w[:-1] / 2
    gradient = -penalty * design.T @ (signs * _sigmoid(-margin))
    gradient[:-1] += w[:-1]
    return float(value), gradient


def _newton(design: np.ndarray, signs: np.ndarray, penalty: float, w: np.ndarray, tolerance: float) -> np.ndarray:
    ridge = np.append(np.ones(design.shape[1] - 1), 0.0)
    margin = signs * (design @ w)
    value = penalty * np.logaddexp(0, -margin).sum() + ridge @ w**2 / 2
    for _ in range(_STEPS):
        p = _sigmoid(margin)
        gradient = ridge * w - penalty * (design.T @ (signs * (1 - p)))
        weighted = design * np.sqrt(penalty * p * (1 - p))[:, None]
        hessian = weighted.T @ weighted
        hessian.flat[:: len(w) + 1] += ridge + 1e-12
        step = np.linalg.solve(hessian, gradient)
        if gradient @ step < tolerance * max(1.0, abs(value)):
            return w - step
        length = 1.0
        for _ in range(_HALVED):
            tried = w - length * step
            margin = signs * (design @ tried)
            new = penalty * np.logaddexp(0, -margin).sum() + ridge @ tried**2 / 2
            if new <= value - 1e-4 * length * (gradient @ step):
                break
            length /= 2
        w, value = tried, new
    return w


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(z / 2))


def log_loss(logits: np.ndarray, y: np.ndarray) -> float:
    """The mean of -log p(class), in nats."""
    return float(np.logaddexp(0, np.where(y, -logits, logits)).mean())


def standardized(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the standard deviation of each column [K] [K]; 1 for one that does not vary."""
    scale = x.std(axis=0)
    return x.mean(axis=0), np.where(scale > 0, scale, 1.0)


def by_folds(x: np.ndarray, y: np.ndarray, folds: np.ndarray, penalties: Sequence[float] = PENALTIES) -> Regression:
    """A fit with that C of which the log loss is least on the rows left out, fold by fold; from the strongest penalty
    on, until two weaker ones after each other have made it worse.

    Args:
        x: [N, K].
        y: bool [N].
        folds: the number of the part that each row is in [N]; a part without one of the classes in the others is left
            out.
        penalties: values of C.
    """
    center, scale = standardized(x)
    z = (x - center) / scale
    parts = [folds != fold for fold in np.unique(folds)]
    parts = [seen for seen in parts if 0 < y[seen].sum() < seen.sum()]
    data = [(z[seen], y[seen], z[~seen], y[~seen]) for seen in parts]
    starts: list[np.ndarray | None] = [None] * len(data)

    def loss(penalty: float) -> float:
        total = 0.0
        for number, (seen_x, seen_y, left_x, left_y) in enumerate(data):
            starts[number] = w = fit(seen_x, seen_y, penalty, starts[number], _ROUGH)
            total += log_loss(left_x @ w[:-1] + w[-1], left_y) * len(left_y)
        return total

    penalty = _least(loss, penalties)
    w = fit(z, y, penalty)
    return Regression(w[:-1], float(w[-1]), center, scale, penalty)


def _least(loss: Callable[[float], float], penalties: Sequence[float]) -> float:
    """The value of which the loss is least, from the first on until two after each other have made it worse."""
    best, chosen, worse = np.inf, penalties[0], 0
    for penalty in penalties:
        found = loss(penalty)
        worse = worse + 1 if found >= best else 0
        if found < best:
            best, chosen = found, penalty
        if worse == 2:
            break
    return chosen


def by_tuning(
    x: np.ndarray, y: np.ndarray, tune_x: np.ndarray, tune_y: np.ndarray, penalties: Sequence[float] = PENALTIES
) -> Regression:
    """A fit with that C of which the log loss is least on other rows; from the strongest penalty on, until two weaker
    ones after each other have made it worse.

    Args:
        x, y: the rows that are fitted [N, K] [N].
        tune_x, tune_y: the others.
        penalties: values of C, ascending.
    """
    center, scale = standardized(x)
    z, tune_z = (x - center) / scale, (tune_x - center) / scale
    w: np.ndarray | None = None
    at: dict[float, np.ndarray] = {}

    def loss(penalty: float) -> float:
        nonlocal w
        at[penalty] = w = fit(z, y, penalty, w, _ROUGH)
        return log_loss(tune_z @ w[:-1] + w[-1], tune_y)

    penalty = _least(loss, penalties)
    found = fit(z, y, penalty, at[penalty])
    return Regression(found[:-1], float(found[-1]), center, scale, penalty)
