"""Tokens are taken for a concept only if several features agree; against rivals that find as many of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sae_cli.evaluation.probing.bases import SparseBasis
from sae_cli.evaluation.probing.material import Material
from sae_cli.evaluation.probing.samples import Part, Sample, only_seen
from sae_cli.metrics.logistic import by_tuning
from sae_cli.metrics.probe_reports import AgreementReport, AgreeReport, ShiftReport
from sae_cli.metrics.significance import interval

LEAST_RECALL = 0.8
_RANDOM_AMONG = 50
FEATURES, BEST, DENSE, HALVES, RANDOM = "features", "best", "dense", "halves", "random"
"""The m best features; the best one alone; a regression on all coordinates; m regressions on a part of them each; m at
random of the 50 best features."""


class _Scored(NamedTuple):
    """Scores of the tokens of each part [n, m]; a token is taken where all of them reach their thresholds [m]."""

    tune: np.ndarray
    same: np.ndarray
    shifted: np.ndarray

    def columns(self, chosen: Sequence[int]) -> _Scored:
        return _Scored(*(each[:, chosen] for each in self))


def agreement(
    basis: SparseBasis,
    material: Material,
    sample: Sample,
    shifted: Sample | None,
    most: int,
    rng: np.random.Generator,
) -> AgreeReport | None:
    """What m = 1, 2, … features do together; None where not one finds 80 % of the tokens for tuning.

    Args:
        basis: the features.
        material: tokens.
        sample: on which features are chosen.
        shifted: of whose test tokens the negatives are others; None for none.
        most: largest m.
        rng: draws the rivals at random.
    """
    places = {
        name: np.searchsorted(material.chosen, part.index)
        for name, part in (("fit", sample.fit), ("tune", sample.tune), ("same", sample.test))
    }
    places["shifted"] = np.searchsorted(material.chosen, (shifted or sample).test.index)
    ranked = basis.ranked(places["tune"])
    thresholds, _ = ranked.best_thresholds(ranked.curves(only_seen(sample.tune).y), LEAST_RECALL)
    auroc = basis.ranked(places["fit"]).auroc(only_seen(sample.fit).y)
    order = np.argsort(-auroc, kind="stable")
    able = order[np.isfinite(thresholds[order]) & (auroc[order] > 0.5)][:_RANDOM_AMONG]
    if not len(able):
        return None

    def scores(make: Callable[[np.ndarray], np.ndarray]) -> _Scored:
        return _Scored(*(make(places[name]) for name in ("tune", "same", "shifted")))

    of_features = scores(lambda rows: basis.dense(rows, able) / thresholds[able])
    features = [int(each) for each in able[:most]]
    dense, by_m = scores(_regressions(material, sample, places, 1, rng)), []
    for m in range(1, len(features) + 1):
        rivals = {
            BEST: of_features.columns([0]),
            DENSE: dense,
            HALVES: scores(_regressions(material, sample, places, m, rng)),
            RANDOM: of_features.columns(rng.permutation(len(able))[:m].tolist()),
        }
        by_m.append(_of_m(m, of_features.columns(range(m)), rivals, material, sample, shifted))
    taken = of_features.same[:, : len(features)] >= 1
    phi = _phi(taken[~sample.test.y])
    eigenvalues = np.linalg.eigvalsh(phi)
    return {
        "features": features,
        "phi": phi.tolist(),
        "m_eff": float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum()),
        "by_m": by_m,
    }


def _regressions(
    material: Material, sample: Sample, places: dict[str, np.ndarray], m: int, rng: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """The logits of m regressions, each on a part of the coordinates that no other has [n, m]."""
    x = material.captured.x
    parts = np.array_split(rng.permutation(x.shape[1]) if m > 1 else np.arange(x.shape[1]), min(m, x.shape[1]))
    fit, tune = (x[places[name]].astype(np.float64) for name in ("fit", "tune"))
    probes = [by_tuning(fit[:, part], sample.fit.y, tune[:, part], sample.tune.y) for part in parts]
    return lambda rows: np.stack(
        [probe.logits(x[rows][:, part].astype(np.float64)) for probe, part in zip(probes, parts, strict=True)], axis=1
    )


def _of_m(
    m: int, own: _Scored, rivals: dict[str, _Scored], material: Material, sample: Sample, shifted: Sample | None
) -> ShiftReport:
    tune, same, other = sample.tune, sample.test, (shifted or sample).test
    recall = float((own.tune[tune.y] >= 1).all(axis=1).mean())
    bounds = {FEATURES: np.ones(own.tune.shape[1])}
    bounds |= {name: at_recall(each.tune[tune.y], recall) for name, each in rivals.items()}
    taken = {
        name: [np.asarray((part >= bounds[name]).all(axis=1)) for part in each[1:]]
        for name, each in {FEATURES: own, **rivals}.items()
    }
    report: ShiftReport = {
        "m": m,
        "recall_on_tune": recall,
        "same": {name: _figures(each[0], same) for name, each in taken.items()},
        "shifted": {name: _figures(each[1], other) for name, each in taken.items()} if shifted else {},
        "fpr_less_dense": None,
        "fpr_less_dense_low": None,
        "fpr_less_dense_high": None,
    }
    if shifted:
        difference, influence = _paired(taken[FEATURES][1], taken[DENSE][1], other, material.tokens.document)
        _, low, high = interval(difference, influence)
        report["fpr_less_dense"] = difference
        report["fpr_less_dense_low"], report["fpr_less_dense_high"] = low, high
    return report


def at_recall(positives: np.ndarray, recall: float) -> np.ndarray:
    """For each score a threshold, all at the same quantile of the concept's tokens, so that so large a share of these
    reaches all of them, or a little more [m].

    Args:
        positives: scores of tokens of the concept [n, m].
        recall: the share.
    """
    ordered = np.sort(positives, axis=0)
    low, high = 0, len(ordered) - 1  # at the lowest all tokens are taken
    while low < high:
        middle = (low + high + 1) // 2
        if (positives >= ordered[middle]).all(axis=1).mean() >= recall:
            low = middle
        else:
            high = middle - 1
    return ordered[low]


def _figures(taken: np.ndarray, part: Part) -> AgreementReport:
    tp, fp = int(taken[part.y].sum()), int(taken[~part.y].sum())
    return {
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / int(part.y.sum()),
        "fpr": fp / int((~part.y).sum()),
    }


def _paired(own: np.ndarray, other: np.ndarray, part: Part, document: np.ndarray) -> tuple[float, np.ndarray]:
    """The difference of the false positive rates, and what each document adds to it [G]."""
    negatives = ~part.y
    apart = own[negatives].astype(float) - other[negatives]
    _, group = np.unique(document[part.index[negatives]], return_inverse=True)
    difference = float(apart.mean())
    return difference, np.bincount(group, weights=apart - difference) / len(apart)


def _phi(errors: np.ndarray) -> np.ndarray:
    """The correlations of columns of errors [m, m]; 0 with one that never varies."""
    centered = errors - errors.mean(axis=0)
    norms = np.sqrt((centered**2).sum(axis=0))
    norms[norms == 0] = np.inf
    found = centered.T @ centered / np.outer(norms, norms)
    np.fill_diagonal(found, 1.0)
    return found
