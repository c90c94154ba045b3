"""Errors by document, and what many comparisons find by chance: intervals, Benjamini and Hochberg, floors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import t

LEAST_DOCUMENTS = 8
"""Below this many there is no error."""


class Interval(NamedTuple):
    """A standard error, and a 95 % interval by the t distribution; None of too few documents."""

    se: float | None
    low: float | None
    high: float | None


def errors_by_document(influence: np.ndarray) -> np.ndarray:
    """Standard errors, clustered by document (CR1); NaN of fewer than `LEAST_DOCUMENTS`.

    Args:
        influence: what each document adds to a figure [..., G].
    """
    n = influence.shape[-1]
    if n < LEAST_DOCUMENTS:
        return np.full(influence.shape[:-1], np.nan)
    return np.asarray(np.sqrt(n / (n - 1) * (influence**2).sum(axis=-1)))


def interval(value: float, influence: np.ndarray) -> Interval:
    """Of a figure [] with the influences of its documents [G]."""
    se = float(errors_by_document(influence))
    if not np.isfinite(se):
        return Interval(None, None, None)
    reach = float(t.ppf(0.975, len(influence) - 1)) * se
    return Interval(se, value - reach, value + reach)


def p_values(value: np.ndarray, null: float, se: np.ndarray, documents: int) -> np.ndarray:
    """Two-sided, by the t distribution with a degree of freedom less than documents; 1 where there is no error, unless
    the figure is off without any."""
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.abs(value - null) / se
    p = 2 * t.sf(statistic, max(1, documents - 1))
    return np.where(np.isfinite(se), np.where(se > 0, p, np.where(value == null, 1.0, 0.0)), 1.0)


def discoveries(p: np.ndarray, rate: float = 0.05) -> np.ndarray:
    """Which hypotheses are rejected so that of these no more than `rate` are expected to be true; bool of p's shape
    (Benjamini and Hochberg 1995)."""
    flat = np.sort(p, axis=None)
    below = np.flatnonzero(flat <= rate * np.arange(1, flat.size + 1) / flat.size)
    return p <= flat[below[-1]] if len(below) else np.zeros(p.shape, dtype=bool)


def permuted(labels: np.ndarray, document: np.ndarray, stratum: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels that tell nothing: within each stratum the sequence of labels, document after document, is laid on the
    documents in another order, begun at another place. How many there are of each stratum stays as it is, and labels
    of one document stay together as far as documents are of equal size.

    Args:
        labels: bool [N].
        document: of each token [N].
        stratum: of each token [N].
        rng: random numbers.
    """
    documents, number = np.unique(document, return_inverse=True)
    before = np.lexsort((number, stratum))
    after = np.lexsort((rng.permutation(len(documents))[number], stratum))
    sizes = np.bincount(np.unique(stratum, return_inverse=True)[1])
    starts = np.append(0, np.cumsum(sizes)[:-1])
    shift = rng.integers(0, sizes)
    place = np.arange(len(labels)) - np.repeat(starts, sizes)
    turned = np.repeat(starts, sizes) + (place + np.repeat(shift, sizes)) % np.repeat(sizes, sizes)
    found = np.empty_like(labels)
    found[after] = labels[before][turned]
    return found


def combined_interval(differences: np.ndarray, influence: np.ndarray) -> tuple[float, float]:
    """A 95 % interval of a mean over splits [S] of which each is measured on the same documents: both errors added, as
    of two crossed random effects, with degrees of freedom by Satterthwaite.

    Args:
        differences: one a split.
        influence: what each document adds to their mean [G].
    """
    parts = [(float(differences.var(ddof=1)) / len(differences), len(differences) - 1)]
    if len(influence) > 1:
        n = len(influence)
        parts.append((float(n / (n - 1) * (influence**2).sum()), n - 1))
    variance, mean = sum(part for part, _ in parts), float(differences.mean())
    if not variance:
        return mean, mean
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    reach = float(t.ppf(0.975, freedom)) * variance**0.5
    return mean - reach, mean + reach
