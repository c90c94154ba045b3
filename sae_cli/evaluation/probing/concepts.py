"""The figures of all concepts, beside those of what the features are held against."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.config.probe import ProbeBasis, ProbingConfig
from sae_cli.evaluation.probing.agreement import agreement
from sae_cli.evaluation.probing.bases import Basis, BasisMaker, DenseBasis, SparseBasis
from sae_cli.evaluation.probing.figures import (
    Measured,
    Places,
    Table,
    TestSet,
    best_feature,
    choose,
    dense_probes,
    every_feature,
    floor,
    k95,
    sparse_probes,
)
from sae_cli.evaluation.probing.material import Material
from sae_cli.evaluation.probing.samples import Sample, Side
from sae_cli.metrics.logistic import Regression
from sae_cli.metrics.probe_reports import BasisReport, ConceptReport, DenseProbeReport, MoreReport
from sae_cli.metrics.significance import discoveries, interval
from sae_cli.tensor_types import Tensor
from sae_cli.terminal.progress import progress

FEATURES, CONTROL = "features", "control"
"""What the bases are called that are a dictionary's: its own, and the control's."""


_AT_ONCE = min(4, os.cpu_count() or 1)
"""Concepts that are worked on: most of it is sorting and products of matrices, which let other threads run."""


class Concept(NamedTuple):
    """What was found of one concept with negatives of one kind.

    Attributes:
        report: its figures.
        table: those of every feature.
        influence: of each basis, what each document adds to the AUROC of its best feature [G].
        documents: ids of these documents [G].
        selected: the features of the sparse probes, best first [k].
        probes: the sparse probes, one for each k.
    """

    report: ConceptReport
    table: Table
    influence: dict[str, np.ndarray]
    documents: np.ndarray
    selected: np.ndarray
    probes: list[Regression]


@dataclass(frozen=True)
class ConceptFigures:
    """Measures concepts.

    Attributes:
        material: tokens and features.
        settings: how.
        ks: features of the sparse probes.
        baselines: what features are held against.
        agree: most features that must agree.
    """

    material: Material
    settings: ProbingConfig
    ks: Sequence[int]
    baselines: Sequence[ProbeBasis]
    agree: int

    def all(self) -> list[Concept]:
        """Those of every concept."""
        found, samples, of_one = [], self.material.samples, partial(self._of, others=self._others())
        with progress(len(samples), "concepts", unit="concepts") as advance, ThreadPoolExecutor(_AT_ONCE) as threads:
            for each in threads.map(of_one, samples):
                found.append(each)
                advance(1)
        rejected = discoveries(np.stack([each.table.p for each in found])) if found else ()
        for each, of_concept in zip(found, rejected, strict=True):
            each.report["discoveries"] = int(of_concept.sum())
        self._agree(found)
        return found

    @cached_property
    def features(self) -> SparseBasis:
        """Those of the dictionary."""
        return SparseBasis.of(FEATURES, self.material.captured)

    def _others(self) -> list[Basis]:
        known = self.material
        fitted = np.flatnonzero(known.tokens.side[known.chosen] != Side.test)
        made = BasisMaker(known.captured, fitted, self.settings.seed).bases(self.baselines)
        return [*made, *(SparseBasis.of(name, captured) for name, captured in known.controls.items())]

    def _of(self, sample: Sample, others: Sequence[Basis]) -> Concept:
        known = self.material
        rng = np.random.default_rng([self.settings.seed, sample.matched, *sample.concept.encode()])
        places = Places.of(sample, known.chosen, known.tokens.document, known.tokens.token, rng)
        test = TestSet(sample.test, places)
        dense, _ = dense_probes(known.captured, sample, places, test)
        bases, measured, kept = {}, {}, None
        for basis in (self.features, *self._by_token(sample), *others):
            found = self._of_basis(basis, sample, places, test, dense["x"], rng)
            bases[basis.name], measured[basis.name] = found[:2]
            kept = kept or found[2:]
        assert kept is not None, "the features are the first basis"
        for name in list(bases)[1:]:
            bases[name]["more"] = _more(measured[FEATURES], measured[name])
        return Concept(
            report=self._report(sample, bases, dense),
            table=every_feature(self.features, sample, places),
            influence={name: each.influence for name, each in measured.items()},
            documents=places.documents,
            selected=kept[0],
            probes=kept[1],
        )

    def _of_basis(
        self, basis: Basis, sample: Sample, places: Places, test: TestSet, dense: DenseProbeReport,
        rng: np.random.Generator,
    ) -> tuple[BasisReport, Measured, np.ndarray, list[Regression]]:  # fmt: skip
        best, measured = best_feature(basis, choose(basis, sample, places), test, self._prevalence(sample))
        alone = basis.n_features == 1
        sparse, selected, probes = ([], np.zeros(1, int), []) if alone else sparse_probes(
            basis, sample, places, test, self.ks
        )  # fmt: skip
        return (
            {
                "features": basis.n_features,
                "best": best,
                "sparse": sparse,
                "k95": k95(sparse, dense["auroc"]),
                "floor": floor(basis, sample.test, places, self.settings.permutations, rng),
            },
            measured,
            selected,
            probes,
        )

    def _by_token(self, sample: Sample) -> list[DenseBasis]:
        words = {ProbeBasis.token: 1, ProbeBasis.token2: 2}
        if (scores := self.material.scores) is None:
            return []
        return [
            DenseBasis(each.value, scores(sample.fit, words[each])[self.material.chosen][:, None])
            for each in self.baselines
            if each in words
        ]

    def _prevalence(self, sample: Sample) -> float:
        """The share of the labelled held-out tokens that are of the concept."""
        known = self.material
        own = known.tokens.labels[known.tokens.side == Side.test, known.names.index(sample.concept)]
        return float((own == 1).sum() / (own >= 0).sum())

    def _report(
        self, sample: Sample, bases: dict[str, BasisReport], dense: dict[str, DenseProbeReport]
    ) -> ConceptReport:
        parts = {"fit": sample.fit, "tune": sample.tune, "test": sample.test}
        document = self.material.tokens.document
        return {
            "concept": sample.concept,
            "kind": sample.kind,
            "positives": {name: int(each.y.sum()) for name, each in parts.items()},
            "documents": {name: len(np.unique(document[each.index])) for name, each in parts.items()},
            "prevalence": self._prevalence(sample),
            "bases": bases,
            "dense": dense,
        }

    def _agree(self, found: Sequence[Concept]) -> None:
        """Add agreement to the concepts with easy negatives, with the matched ones as other tokens."""
        if not self.agree:
            return
        by_kind = {(each.concept, each.matched): each for each in self.material.samples}
        for sample, each in zip(self.material.samples, found, strict=True):
            if not sample.matched:
                shifted = by_kind.get((sample.concept, True))
                rng = np.random.default_rng([self.settings.seed, 8, *sample.concept.encode()])
                of_it = agreement(self.features, self.material, sample, shifted, self.agree, rng)
                each.report["agree"] = of_it


def _more(own: Measured, other: Measured) -> MoreReport:
    difference = own.auroc - other.auroc
    _, low, high = interval(difference, own.influence - other.influence)
    return {"more": difference, "more_low": low, "more_high": high}


def tensors(concepts: Sequence[Concept]) -> dict[str, Tensor]:
    """For `probe.safetensors`: of every concept and feature float32 [C, F] each, the features of the sparse probes
    int64 [C, k], and for pairing, of each concept by its number, what its documents add to the AUROC of every basis."""
    found: dict[str, Tensor] = {}
    for name in Table._fields:
        stacked = np.stack([getattr(each.table, name) for each in concepts]).astype(np.float32)
        found[name] = torch.from_numpy(stacked)
    found["selected"] = torch.from_numpy(np.stack([each.selected for each in concepts]).astype(np.int64))
    for number, each in enumerate(concepts):
        found[f"{number}.document"] = torch.from_numpy(each.documents.astype(np.int64))
        found[f"{number}.influence"] = torch.from_numpy(np.stack([*each.influence.values()]).astype(np.float32))
    return found
