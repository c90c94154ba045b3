"""A concept and its spurious companion: a probe fitted where the two occur together or not at all, and what is left of
it where they part; then the same with those features taken out that a judge holds to be of the companion.

It is an experiment with controls. It ranks no dictionaries: how well features can be taken out says nothing of how good
a dictionary is (arXiv 2605.18229).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from sae_cli.config.probe import ConfoundConfig, Judge
from sae_cli.dictionaries.base import Dictionary
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.probing.bases import SparseBasis
from sae_cli.evaluation.probing.capture import Captured
from sae_cli.evaluation.probing.cells import CELLS, Cells, Summary, ablated_report, cells_report, companion_auroc
from sae_cli.evaluation.probing.material import Material
from sae_cli.evaluation.probing.samples import Side
from sae_cli.metrics.logistic import Regression, by_tuning
from sae_cli.metrics.probe_reports import ConfoundReport, JudgedReport
from sae_cli.metrics.ranked import RankedFeatures

ABLATED, REFITTED, RANDOM = "ablated", "refitted", "random"
_APART = 0.1
"""By how much a feature's AUROC of the companion is above that of the concept, where it is the companion's."""
_ALIKE = 10
"""Features nearest in attribution, of which one is drawn in the place of each that is taken out."""


class _Split(NamedTuple):
    """Places of tokens among those captured: confounded ones for fitting and tuning, balanced ones for both, and
    balanced ones for testing; for each whether it is of the concept and of the companion."""

    fit: np.ndarray
    tune: np.ndarray
    balanced: np.ndarray
    balanced_tune: np.ndarray
    test: np.ndarray


class _Units(NamedTuple):
    """Directions that can be taken out one by one: what each is on every token, and what it writes.

    Attributes:
        basis: their values.
        rows: what each writes [K, D].
    """

    basis: SparseBasis | np.ndarray
    rows: np.ndarray

    def values(self, places: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """float64 [n, k]"""
        if isinstance(self.basis, SparseBasis):
            return self.basis.dense(places, chosen)
        return self.basis[np.ix_(places, chosen)].astype(np.float64)

    def mean_magnitude(self, places: np.ndarray) -> np.ndarray:
        """The mean of |value| of each [K]."""
        if isinstance(self.basis, SparseBasis):
            _, columns, values = self.basis.entries(places)
            return np.bincount(columns, weights=values, minlength=self.basis.n_features) / len(places)
        return np.abs(self.basis[places]).mean(axis=0, dtype=np.float64)

    def auroc(self, places: np.ndarray, y: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """Of each, whichever way [k]."""
        found = RankedFeatures.of_dense(self.values(places, chosen)).auroc(y)
        return np.maximum(found, 1 - found)


@dataclass(frozen=True)
class _Experiment:
    """The tokens of a pair, in the activations of one dictionary."""

    y: np.ndarray
    a: np.ndarray
    b: np.ndarray
    document: np.ndarray
    units: dict[str, _Units]
    settings: ConfoundConfig
    seed: int

    def run(self, concept: str, companion: str, side: np.ndarray) -> ConfoundReport:
        """Over all splits."""
        summary = Summary()
        for number in range(self.settings.splits):
            rng = np.random.default_rng([self.seed, number, 12])
            split = self._split(side, rng)
            self._measure(split, summary, rng)
        judged: list[JudgedReport] = []
        for judge in self.settings.judges:
            for top in self.settings.top:
                conditions = {
                    key[2]: ablated_report(summary, key, ("nothing",))
                    for key in summary.cells
                    if key[:2] == (judge.value, str(top))
                }
                judged.append({"judge": judge.value, "top": top, "conditions": conditions})
        return {
            "concept": concept,
            "companion": companion,
            "splits": self.settings.splits,
            "cells": self.settings.n,
            "nothing": cells_report(summary.cells["nothing",]),
            "balanced": cells_report(summary.cells["balanced",]),
            "without_companion": cells_report(summary.cells["without_companion",]),
            "judged": judged,
        }

    def _split(self, side: np.ndarray, rng: Generator) -> _Split:
        documents, number = np.unique(self.document, return_inverse=True)
        is_tuned = (rng.random(len(documents)) < 0.2)[number]
        training, n = side != Side.test, self.settings.n
        fit, tune = training & ~is_tuned, training & is_tuned
        together = (0, 3)
        return _Split(
            fit=self._draw(fit, together, n, rng, "fit"),
            tune=self._draw(tune, together, max(1, n // 4), rng, "tune"),
            balanced=self._draw(fit, range(CELLS), max(1, n // 2), rng, "fit"),
            balanced_tune=self._draw(tune, range(CELLS), max(1, n // 8), rng, "tune"),
            test=self._draw(~training, range(CELLS), n, rng, "test"),
        )

    def _draw(self, own: np.ndarray, cells: Sequence[int], n: int, rng: Generator, what: str) -> np.ndarray:
        """As many tokens of each cell: n, or as many as the smallest has."""
        cell = 2 * self.a + self.b
        found = [rng.permutation(np.flatnonzero(own & (cell == each))) for each in cells]
        if (least := min(n, *(len(each) for each in found))) < min(n, _ALIKE):
            sizes = ", ".join(f"{len(each):,} of cell {name}" for each, name in zip(found, _named(cells), strict=True))
            raise JobError(
                f"confound=: too few {what} tokens: {sizes}, expected at least {min(n, _ALIKE)} of each; raise "
                "probe.tokens and probe.test_tokens"
            )
        return np.concatenate([each[:least] for each in found])

    def _measure(self, split: _Split, summary: Summary, rng: Generator) -> None:
        probe = self._fit(self.y, split.fit, split.tune, self.a)
        summary.add(("nothing",), self._cells(split, probe, self.y))
        fair = self._fit(self.y, split.balanced, split.balanced_tune, self.a)
        summary.add(("balanced",), self._cells(split, fair, self.y))
        other = self._fit(self.y, split.balanced, split.balanced_tune, self.b)
        direction = other.in_units[0] / np.linalg.norm(other.in_units[0])
        centered = self.y - self.y[split.fit].mean(axis=0)
        without = self.y - (centered @ direction)[:, None] * direction
        refitted = self._fit(without, split.fit, split.tune, self.a)
        summary.add(("without_companion",), self._cells(split, refitted, without))
        for name, units in self.units.items():
            weight = np.abs(units.rows @ probe.in_units[0]) * units.mean_magnitude(split.fit)
            order = np.argsort(-weight, kind="stable")
            for judge in self.settings.judges if name == "features" else [Judge.oracle]:
                if judge not in self.settings.judges:
                    continue
                for top in self.settings.top:
                    chosen = self._judged(judge, units, order[:top], split)
                    self._take_out((judge.value, str(top)), name, units, chosen, weight, probe, split, summary, rng)

    def _take_out(
        self, key: tuple[str, str], name: str, units: _Units, chosen: np.ndarray, weight: np.ndarray,
        probe: Regression, split: _Split, summary: Summary, rng: Generator,
    ) -> None:  # fmt: skip
        """Measure with some units taken out, and for features with as many others."""
        without = self._without(units, chosen, split)
        own = name == "features"
        summary.add((*key, ABLATED if own else name), self._cells(split, probe, without), len(chosen))
        if not own:
            return
        refitted = self._fit(without, split.fit, split.tune, self.a)
        summary.add((*key, REFITTED), self._cells(split, refitted, without), len(chosen))
        others = _matched_on(weight, chosen, rng)
        summary.add((*key, RANDOM), self._cells(split, probe, self._without(units, others, split)), len(others))

    def _judged(self, judge: Judge, units: _Units, top: np.ndarray, split: _Split) -> np.ndarray:
        """Those of the companion."""
        if judge is Judge.names:
            return np.intersect1d(top, np.array(self.settings.names, dtype=np.int64))
        of_companion = units.auroc(split.balanced, self.b[split.balanced] == 1, top)
        of_concept = units.auroc(split.balanced, self.a[split.balanced] == 1, top)
        return top[of_companion > of_concept + _APART]

    def _without(self, units: _Units, chosen: np.ndarray, split: _Split) -> np.ndarray:
        """The activations with these at their means."""
        if not len(chosen):
            return self.y
        every = np.arange(len(self.y))
        values = units.values(every, chosen)
        return self.y - (values - values[split.fit].mean(axis=0)) @ units.rows[chosen]

    def _fit(self, y: np.ndarray, fit: np.ndarray, tune: np.ndarray, labels: np.ndarray) -> Regression:
        return by_tuning(y[fit], labels[fit] == 1, y[tune], labels[tune] == 1)

    def _cells(self, split: _Split, probe: Regression, y: np.ndarray) -> Cells:
        test = split.test
        logits, a, b = probe.logits(y[test]), self.a[test] == 1, self.b[test] == 1
        return Cells.of(logits, a, b, self.document[test], companion_auroc(logits, a, b))


def _named(cells: Sequence[int]) -> list[str]:
    return [f"{each // 2}{each % 2}" for each in cells]


def _matched_on(weight: np.ndarray, chosen: np.ndarray, rng: Generator) -> np.ndarray:
    """For each unit another one at random, of those nearest in weight that are not taken out and do anything."""
    free = np.setdiff1d(np.flatnonzero(weight > 0), chosen)
    found: list[int] = []
    for each in chosen:
        left = np.setdiff1d(free, np.array(found, dtype=np.int64))
        if not len(left):
            break
        nearest = left[np.argsort(np.abs(np.log(weight[left]) - np.log(max(weight[each], 1e-300))), kind="stable")]
        found.append(int(rng.choice(nearest[:_ALIKE])))
    return np.array(found, dtype=np.int64)


def _units(captured: Captured, dictionary: Dictionary, fitted: np.ndarray, own: np.ndarray) -> dict[str, _Units]:
    """The features, the coordinates, and the principal components."""
    y = captured.y[own].astype(np.float64)
    centered = y - y[fitted].mean(axis=0)
    components = np.linalg.eigh(centered[fitted].T @ centered[fitted])[1].T
    counts = np.diff(captured.starts)
    starts = np.append(0, np.cumsum(counts[own]))
    row, columns, values = SparseBasis.of("", captured).entries(own)
    assert len(row) == starts[-1]
    features = SparseBasis("features", starts, columns, values, captured.n_features)
    return {
        "features": _Units(features, dictionary.W_dec.detach().cpu().double().numpy()),
        "neurons": _Units(centered, np.eye(y.shape[1])),
        "pca": _Units(centered @ components.T, components),
    }


def confounded(
    material: Material,
    pair: Sequence[str],
    settings: ConfoundConfig,
    seed: int,
    dictionary: Dictionary,
    controls: Mapping[str, Dictionary] | None = None,
) -> ConfoundReport:
    """The experiment with one pair of concepts.

    Args:
        material: tokens and features.
        pair: the concept and its companion.
        settings: how.
        seed: of what is drawn.
        dictionary: whose features are taken out.
        controls: other dictionaries by their names in the material, with which all of it is done too.

    Raises:
        RequestError: what features write is not known by itself.
        JobError: a cell has too few tokens.
    """
    if dictionary.normalization is not None:
        raise RequestError("confound=: expected a dictionary whose features add up, found one that normalizes tokens")
    of_chosen = material.tokens.labels[material.chosen]
    a, b = (of_chosen[:, material.names.index(each)] for each in pair)
    own = np.flatnonzero((a >= 0) & (b >= 0))
    side, document = (each[material.chosen][own] for each in (material.tokens.side, material.tokens.document))

    def report(captured: Captured, of: Dictionary) -> ConfoundReport:
        units = _units(captured, of, np.flatnonzero(side != Side.test), own)
        y = captured.y[own].astype(np.float64)
        whole = _Experiment(y, a[own].astype(np.int64), b[own].astype(np.int64), document, units, settings, seed)
        return whole.run(pair[0], pair[1], side)

    found = report(material.captured, dictionary)
    of_controls = {name: report(material.controls[name], each) for name, each in (controls or {}).items()}
    return {**found, "controls": of_controls} if of_controls else found
