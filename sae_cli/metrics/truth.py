"""How well a dictionary knows the truth of data=synthetic: its directions, and when they fire.

As SynthSAEBench has it (Chanin 2026, arXiv 2602.14687): cosines by their size, whatever their sign; every feature is
held against the true feature whose direction is nearest to its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from sae_cli.metrics.similarity import MOST_ASSIGNED, unit_rows
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_CHUNK = 1024


class Alignment(NamedTuple):
    """Which features and which true directions are nearest to each other.

    Attributes:
        of_feature: the true feature of each feature [F].
        of_truth: the feature of each true feature [T].
        mcc: mean absolute cosine of the best one-to-one assignment of min(F, T); None above 16,384 of either.
    """

    of_feature: Int[Tensor, " F"]
    of_truth: Int[Tensor, " T"]
    mcc: float | None

    @property
    def uniqueness(self) -> float:
        """How many different true features the features have, as a share of the features."""
        return len(self.of_feature.unique()) / len(self.of_feature)


def alignment(W_dec: Float[Tensor, "F D"], truth: Float[Tensor, "T D"]) -> Alignment:
    """Of a dictionary and the true directions.

    Args:
        W_dec: decoder rows.
        truth: unit rows.
    """
    rows, truth = unit_rows(W_dec), unit_rows(truth)
    assigned = max(len(rows), len(truth)) <= MOST_ASSIGNED
    kept: list[Tensor] = []
    of_feature: list[Tensor] = []
    best, of_truth = torch.full((len(truth),), -1.0), torch.zeros(len(truth), dtype=torch.int64)
    for number, part in enumerate(rows.split(_CHUNK)):
        cosines = (part @ truth.T).abs()
        of_feature.append(cosines.argmax(dim=1))
        largest, index = cosines.max(dim=0)
        nearer = largest > best
        best, of_truth = torch.where(nearer, largest, best), torch.where(nearer, index + number * _CHUNK, of_truth)
        if assigned:
            kept.append(cosines)
    return Alignment(torch.cat(of_feature), of_truth, _assigned(torch.cat(kept)) if assigned else None)


def _assigned(cosines: Float[Tensor, "F T"]) -> float:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cosines.numpy(), maximize=True)
    return float(cosines[torch.from_numpy(rows), torch.from_numpy(columns)].double().mean())


class Fired(NamedTuple):
    """What fired on N tokens: the features of a dictionary, and the true ones."""

    features: Bool[Tensor, "N F"]
    truth: Bool[Tensor, "N T"]


class FiringSums:
    """How often features and the true features nearest to them fire, and how often together.

    Args:
        found: which are nearest to each other.
    """

    def __init__(self, found: Alignment) -> None:
        self._found = found
        features, truth = len(found.of_feature), len(found.of_truth)
        self.tokens = 0
        self.fires = torch.zeros(features, dtype=torch.int64)
        self.of_feature = torch.zeros(2, features, dtype=torch.int64)
        """How often the true feature of each feature fires, and how often both do [2, F]."""
        self.true_fires = torch.zeros(truth, dtype=torch.int64)
        self.of_truth = torch.zeros(2, truth, dtype=torch.int64)
        """How often the feature of each true feature fires, and how often both do [2, T]."""

    def add(self, seen: Fired) -> None:
        """Add tokens."""
        self.tokens += len(seen.features)
        self.fires += seen.features.sum(dim=0)
        self.true_fires += seen.truth.sum(dim=0)
        theirs, ours = seen.truth[:, self._found.of_feature], seen.features[:, self._found.of_truth]
        self.of_feature += torch.stack([theirs.sum(dim=0), (theirs & seen.features).sum(dim=0)])
        self.of_truth += torch.stack([ours.sum(dim=0), (ours & seen.truth).sum(dim=0)])

    def merge(self, other: FiringSums) -> FiringSums:
        """The sums of both parts."""
        merged = FiringSums(self._found)
        merged.tokens = self.tokens + other.tokens
        for name in ("fires", "of_feature", "true_fires", "of_truth"):
            setattr(merged, name, getattr(self, name) + getattr(other, name))
        return merged

    def results(self) -> dict[str, float | None]:
        """Means over the features that fire, and over the true features that do."""
        fires, (theirs, both) = self.fires.double(), self.of_feature.double()
        alive = fires > 0
        precision, recall = both / fires, torch.where(theirs > 0, both / theirs, 0.0)
        truly, (ours, together) = self.true_fires.double(), self.of_truth.double()
        there = truly > 0
        return {
            "firing_precision": _mean(precision[alive]),
            "firing_recall": _mean(recall[alive]),
            "firing_f1": _mean((2 * both / (fires + theirs))[alive]),
            "truth_f1": _mean((2 * together / (ours + truly))[there]),
            "truth_recall": float(together[there].sum() / truly.sum()) if there.any() else None,
        }


def _mean(values: Float[Tensor, " N"]) -> float | None:
    return float(values.mean()) if len(values) else None
