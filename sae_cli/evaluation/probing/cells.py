"""How a probe of a concept does in the four cells of the concept and its companion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sae_cli.metrics.probe_reports import AblatedReport, CellsReport
from sae_cli.metrics.ranked import RankedFeatures
from sae_cli.metrics.significance import combined_interval

CELLS = 4
"""Neither, the companion alone, the concept alone, both; in this order."""
NAMES = ("neither", "companion", "concept", "both")


class Cells(NamedTuple):
    """One probe on the test tokens of one split.

    Attributes:
        accuracy: share of each cell's tokens that are told rightly [4].
        auroc: of the concept, the mean of that with the companion and that without.
        auroc_of_companion: of the companion, the mean of that with the concept and that without; .5 where it does not
            matter.
        documents: ids of documents [G].
        influence: what each of them adds to the accuracy of each cell [G, 4].
    """

    accuracy: np.ndarray
    auroc: float
    auroc_of_companion: float
    documents: np.ndarray
    influence: np.ndarray

    @classmethod
    def of(
        cls,
        logits: np.ndarray,
        a: NDArray[np.bool_],
        b: NDArray[np.bool_],
        document: np.ndarray,
        of_companion: float,
    ) -> Cells:
        """Of logits of the concept, of tokens that are of it (a) and of the companion (b)."""
        cell = 2 * a.astype(int) + b
        right = (logits > 0) == a
        counts = np.bincount(cell, minlength=CELLS)
        accuracy = np.bincount(cell, weights=right, minlength=CELLS) / counts
        documents, group = np.unique(document, return_inverse=True)
        off = (right - accuracy[cell]) / counts[cell]
        influence = np.bincount(group * CELLS + cell, weights=off, minlength=CELLS * len(documents))
        auroc = float(np.mean([_auroc(logits[b == each], a[b == each]) for each in (False, True)]))
        return cls(accuracy, auroc, of_companion, documents, influence.reshape(-1, CELLS))

    @property
    def worst(self) -> int:
        """The cell with the least accuracy."""
        return int(self.accuracy.argmin())


def companion_auroc(logits: np.ndarray, a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """How well logits of the concept tell the companion, given the concept."""
    return float(np.mean([_auroc(logits[a == each], b[a == each]) for each in (False, True)]))


def _auroc(scores: np.ndarray, y: np.ndarray) -> float:
    return float(RankedFeatures.of_dense(scores[:, None]).auroc(y)[0])


Key = tuple[str, ...]


@dataclass
class Summary:
    """What was found over splits, by condition.

    Attributes:
        cells: of every split.
        removed: how many units were taken out in each.
    """

    cells: dict[Key, list[Cells]] = field(default_factory=dict)
    removed: dict[Key, list[int]] = field(default_factory=dict)

    def add(self, key: Key, cells: Cells, removed: int = 0) -> None:
        """One split of a condition."""
        self.cells.setdefault(key, []).append(cells)
        self.removed.setdefault(key, []).append(removed)


def cells_report(splits: list[Cells]) -> CellsReport:
    """Means over splits."""
    accuracy = np.stack([each.accuracy for each in splits])
    worst = np.array([each.accuracy.min() for each in splits])
    parted = accuracy[:, 1:3].mean(axis=1)
    auroc, of_companion = (
        np.array([getattr(each, name) for each in splits]) for name in ("auroc", "auroc_of_companion")
    )
    return {
        "accuracy": dict(zip(NAMES, accuracy.mean(axis=0).tolist(), strict=True)),
        "worst": float(worst.mean()),
        "worst_se": _se(worst),
        "parted": float(parted.mean()),
        "parted_se": _se(parted),
        "auroc": float(auroc.mean()),
        "auroc_se": _se(auroc),
        "auroc_of_companion": float(of_companion.mean()),
        "auroc_of_companion_se": _se(of_companion),
    }


def ablated_report(summary: Summary, key: Key, without: Key) -> AblatedReport:
    """Of a condition, and how much better its worst cell is than without."""
    own, other = summary.cells[key], summary.cells[without]
    differences = np.array([a.accuracy.min() - b.accuracy.min() for a, b in zip(own, other, strict=True)])
    by_document: dict[int, float] = {}
    for a, b in zip(own, other, strict=True):
        apart = a.influence[:, a.worst] - b.influence[:, b.worst]
        for document, each in zip(a.documents.tolist(), apart.tolist(), strict=True):
            by_document[document] = by_document.get(document, 0.0) + each / len(own)
    low, high = combined_interval(differences, np.array([*by_document.values()]))
    return {
        **cells_report(own),
        "removed": float(np.mean(summary.removed[key])),
        "more": float(differences.mean()),
        "more_low": low,
        "more_high": high,
    }


def _se(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
