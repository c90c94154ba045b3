"""The figures of one concept: what is chosen and fitted on tokens for that, and then measured once on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sae_cli.evaluation.probing.bases import Basis
from sae_cli.evaluation.probing.capture import Captured
from sae_cli.evaluation.probing.samples import Sample, Unseen, only_seen
from sae_cli.metrics.logistic import Regression, by_folds, by_tuning, log_loss
from sae_cli.metrics.probe_reports import BestFeatureReport, DenseProbeReport, SparseProbeReport
from sae_cli.metrics.ranked import RankedFeatures
from sae_cli.metrics.significance import errors_by_document, interval, p_values, permuted

FOLDS = 5
K95 = 0.95
"""Share of what the dense probe has above chance that a sparse one is to reach."""


class Places(NamedTuple):
    """Where the tokens of a sample are among those that were captured.

    Attributes:
        fit, tune, test: their places [n] each.
        group: the document of each test token, from 0 on [n].
        documents: ids of these documents [G].
        folds: the number of the part that each token for fitting is in [n].
        stratum: of each test token: its token id where the sample is matched, else the same for all [n].
    """

    fit: np.ndarray
    tune: np.ndarray
    test: np.ndarray
    group: np.ndarray
    documents: np.ndarray
    folds: np.ndarray
    stratum: np.ndarray

    @classmethod
    def of(
        cls, sample: Sample, chosen: np.ndarray, document: np.ndarray, token: np.ndarray, rng: np.random.Generator
    ) -> Places:
        """Where they are.

        Args:
            sample: the tokens, by their numbers.
            chosen: numbers of what was captured, ascending.
            document, token: of all tokens.
            rng: deals the documents out to folds.
        """
        documents, group = np.unique(document[sample.test.index], return_inverse=True)
        fitted, number = np.unique(document[sample.fit.index], return_inverse=True)
        ids = token[sample.test.index]
        return cls(
            *(np.searchsorted(chosen, each.index) for each in (sample.fit, sample.tune, sample.test)),
            group=group,
            documents=documents,
            folds=(rng.permutation(len(fitted)) % FOLDS)[number],
            stratum=ids if sample.matched else np.zeros_like(ids),
        )


class Choice(NamedTuple):
    """The one feature that is chosen on tokens for fitting, and its threshold on those for tuning.

    Attributes:
        feature: its number.
        sign: 1 where it is larger on the concept's tokens, -1 where it is smaller there.
        threshold: from which on, times the sign, tokens are taken for the concept.
        fitted: its AUROC on tokens for fitting.
    """

    feature: int
    sign: int
    threshold: float
    fitted: float


class Measured(NamedTuple):
    """An AUROC on test tokens, and what each document adds to it [G]."""

    auroc: float
    influence: np.ndarray


class TestSet:
    """The test tokens of a sample; each thing is measured on them once.

    Args:
        part: the tokens.
        places: where they are.
    """

    __test__ = False  # pytest takes the name for one of its own

    def __init__(self, part: Unseen, places: Places) -> None:
        self._y, self._places = part.y, places
        self._measured: set[str] = set()

    @property
    def rows(self) -> np.ndarray:
        """Their places among what was captured."""
        return self._places.test

    def measure(self, what: str, scores: np.ndarray) -> Measured:
        """The AUROC of scores.

        Args:
            what: it is that is measured, for the first time.
            scores: of the test tokens [n].

        Raises:
            ValueError: it was measured before: whoever measures again may have chosen by what came out.
        """
        if what in self._measured:
            raise ValueError(f"{what} was measured on the test tokens before")
        self._measured.add(what)
        ranked = RankedFeatures.of_dense(scores[:, None])
        curves = ranked.curves(self._y)
        influence = ranked.influence(curves, self._y, self._places.group, len(self._places.documents))
        return Measured(float(ranked.auroc(self._y)[0]), influence[0])

    def counts(self, taken: np.ndarray) -> tuple[int, int, int, int]:
        """Of tokens that are taken for the concept [n]: of it and not, and how many there are of each."""
        return int(taken[self._y].sum()), int(taken[~self._y].sum()), int(self._y.sum()), int((~self._y).sum())

    def average_precision(self, scores: np.ndarray) -> float:
        ranked = RankedFeatures.of_dense(scores[:, None])
        return float(ranked.average_precision(ranked.curves(self._y))[0])

    def log_loss(self, logits: np.ndarray) -> float:
        return log_loss(logits, self._y)


def choose(basis: Basis, sample: Sample, places: Places) -> Choice:
    """The feature that tells the tokens for fitting apart best, whichever way."""
    fit, tune = only_seen(sample.fit), only_seen(sample.tune)
    auroc = basis.ranked(places.fit).auroc(fit.y)
    feature = int(np.abs(auroc - 0.5).argmax())
    sign = 1 if auroc[feature] >= 0.5 else -1
    scores = sign * basis.dense(places.tune, np.array([feature]))
    ranked = RankedFeatures.of_dense(scores)
    # The smallest value is no threshold: all tokens would be taken for the concept.
    curves = ranked.curves(tune.y)
    threshold, _ = ranked.best_thresholds(curves)
    if threshold[0] <= scores.min() and scores.max() > scores.min():
        threshold[0] = np.unique(scores)[:2].mean()
    return Choice(feature, sign, float(threshold[0]), float(max(auroc[feature], 1 - auroc[feature])))


def best_feature(basis: Basis, choice: Choice, test: TestSet, prevalence: float) -> tuple[BestFeatureReport, Measured]:
    """The figures of the feature that was chosen.

    Args:
        basis: it is of.
        choice: the feature.
        test: tokens that it is measured on.
        prevalence: share of the text's tokens that are of the concept.
    """
    scores = choice.sign * basis.dense(test.rows, np.array([choice.feature]))[:, 0]
    found = test.measure(basis.name, scores)
    se, low, high = interval(found.auroc, found.influence)
    tp, fp, positives, negatives = test.counts(scores >= choice.threshold)
    recall, fpr = tp / positives, fp / negatives
    of_text = recall * prevalence + fpr * (1 - prevalence)
    return {
        "feature": choice.feature,
        "sign": choice.sign,
        "auroc_fit": choice.fitted,
        "auroc": found.auroc,
        "auroc_se": se,
        "auroc_low": low,
        "auroc_high": high,
        "average_precision": test.average_precision(scores),
        "threshold": choice.threshold if np.isfinite(choice.threshold) else None,
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": recall,
        "f1": 2 * tp / (tp + fp + positives),
        "fpr": fpr,
        "precision_in_text": recall * prevalence / of_text if of_text else 0.0,
    }, found


def sparse_probes(
    basis: Basis, sample: Sample, places: Places, test: TestSet, ks: Sequence[int]
) -> tuple[list[SparseProbeReport], np.ndarray, list[Regression]]:
    """Logistic regressions on the k features whose class means are furthest apart, the features [largest k], and the
    regressions."""
    fit = only_seen(sample.fit)
    separation = basis.separation(places.fit, fit.y)
    most = min(max(ks), basis.n_features)
    selected = np.argsort(-separation, kind="stable")[:most]
    x, x_test = basis.dense(places.fit, selected), basis.dense(test.rows, selected)
    reports: list[SparseProbeReport] = []
    regressions = []
    for k in ks:
        if k > most:
            break
        probe = by_folds(x[:, :k], fit.y, places.folds)
        regressions.append(probe)
        reports.append(
            {"k": k, **_of_probe(f"{basis.name} k={k}", probe, x_test[:, :k], test), "penalty": probe.penalty}
        )
    return reports, selected, regressions


def _of_probe(what: str, probe: Regression, x: np.ndarray, test: TestSet) -> DenseProbeReport:
    logits = probe.logits(x)
    found = test.measure(what, logits)
    se, low, high = interval(found.auroc, found.influence)
    tp, fp, positives, negatives = test.counts(logits > 0)
    return {
        "auroc": found.auroc,
        "auroc_se": se,
        "auroc_low": low,
        "auroc_high": high,
        "log_loss": test.log_loss(logits),
        "balanced_accuracy": (tp / positives + 1 - fp / negatives) / 2,
    }


def dense_probes(
    captured: Captured, sample: Sample, places: Places, test: TestSet
) -> tuple[dict[str, DenseProbeReport], Regression]:
    """Logistic regressions on the activations, on what the dictionary makes of them, and on what it leaves; and the
    first of them."""
    fit, tune = only_seen(sample.fit), only_seen(sample.tune)
    parts = (places.fit, places.tune, test.rows)
    known = {
        "x": [captured.x[rows].astype(np.float64) for rows in parts],
        "x_hat": [captured.y_hat[rows].astype(np.float64) for rows in parts],
        "error": [(captured.y[rows] - captured.y_hat[rows]).astype(np.float64) for rows in parts],
    }
    reports, probes = {}, {}
    for name, (fitted, tuned, tested) in known.items():
        probes[name] = by_tuning(fitted, fit.y, tuned, tune.y)
        reports[name] = _of_probe(f"dense {name}", probes[name], tested, test)
    return reports, probes["x"]


def k95(reports: Sequence[SparseProbeReport], dense: float) -> int | None:
    """The least k whose AUROC is at least 95 % of what the dense one has above chance; None where none is."""
    wanted = K95 * (dense - 0.5) + 0.5
    return next((each["k"] for each in reports if each["auroc"] >= wanted), None)


def floor(basis: Basis, part: Unseen, places: Places, permutations: int, rng: np.random.Generator) -> float | None:
    """What the best of all features has where labels tell nothing: the 95 % quantile of its AUROC over permutations of
    the labels; None without any."""
    if not permutations:
        return None
    labels = [permuted(part.y, places.group, places.stratum, rng) for _ in range(permutations)]
    aurocs = basis.ranked(places.test).aurocs(np.stack(labels))
    return float(np.quantile(np.abs(aurocs - 0.5).max(axis=1) + 0.5, 0.95))


class Table(NamedTuple):
    """Of every feature [F] each: figures on test tokens at thresholds of its own from those for tuning."""

    auroc: np.ndarray
    auroc_se: np.ndarray
    p: np.ndarray
    average_precision: np.ndarray
    threshold: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def every_feature(basis: Basis, sample: Sample, places: Places) -> Table:
    """The figures of each feature by itself; nothing is chosen among them."""
    tuned, ranked, y = basis.ranked(places.tune), basis.ranked(places.test), sample.test.y
    threshold, _ = tuned.best_thresholds(tuned.curves(only_seen(sample.tune).y))
    curves, auroc = ranked.curves(y), ranked.auroc(y)
    tp, fp = ranked.at_thresholds(threshold, y)
    se = errors_by_document(ranked.influence(curves, y, places.group, len(places.documents)))
    taken = tp + fp
    return Table(
        auroc=auroc,
        auroc_se=se,
        p=p_values(auroc, 0.5, se, len(places.documents)),
        average_precision=ranked.average_precision(curves),
        threshold=threshold,
        precision=np.divide(tp, taken, out=np.zeros(len(tp)), where=taken > 0),
        recall=tp / curves.positives,
        f1=2 * tp / (taken + curves.positives),
    )
