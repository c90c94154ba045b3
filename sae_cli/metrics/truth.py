"""Features against a known truth: whether directions are found, and whether features fire when the true ones do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch

from sae_cli.kernels.codes import Codes
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS, NO_ESTIMATE, Estimate, standard_error, with_interval
from sae_cli.metrics.similarity import MOST_ASSIGNED, Cosines, NearestOf, NearestRows, one_to_one, unit_rows
from sae_cli.tensor_types import Float, Int, Tensor

GROUPS = 32
"""Groups of tokens that errors are over; tokens of a known truth are independent, so that any groups will do."""

_CHUNK = 1024


class Matches(NamedTuple):
    """The nearest by absolute cosine: of every feature a true one [F], of every true one a feature [A]."""

    of_feature: NearestRows
    of_truth: NearestRows

    @classmethod
    def between(cls, W_dec: Float[Tensor, "F D"], truth: Float[Tensor, "A D"]) -> Matches:
        """Those of decoder rows and true directions; of equal ones the first."""
        a, b = unit_rows(W_dec), unit_rows(truth)
        forward, back = [], NearestOf(len(b))
        for number, part in enumerate(a.split(_CHUNK)):
            cosines = (part @ b.T).abs()
            forward.append(NearestRows(*cosines.max(dim=1)))
            back.add(Cosines(cosines, first=number * _CHUNK))
        return cls(NearestRows(*map(torch.cat, zip(*forward, strict=True))), back.results())

    @property
    def uniqueness(self) -> float:
        """Different true directions that features are nearest to, for each feature."""
        return len(self.of_feature.index.unique()) / len(self.of_feature.index)


def mcc(W_dec: Float[Tensor, "F D"], truth: Float[Tensor, "A D"]) -> float | None:
    """The mean absolute cosine of the assignment of features to different true directions whose sum is the largest,
    over min(F, A) pairs (Song et al. 2025, arXiv 2505.20254); None where there are too many to assign."""
    if max(len(W_dec), len(truth)) > MOST_ASSIGNED:
        return None
    return float(one_to_one(W_dec, truth, absolute=True).double().mean())


class EncodedTruth(NamedTuple):
    """What a pass sees of N tokens whose true features are known.

    Attributes:
        encoded: what the dictionary makes of them.
        codes: the true features, N rows.
        first: the number of the first token.
    """

    encoded: Encoded
    codes: Codes
    first: int


@dataclass
class FiringCounts:
    """On how many tokens features and true features fire, alone and together, in groups of tokens.

    Attributes:
        matches: which are held against each other.
        tokens: of each group [G].
        fired, hit: tokens on which each feature fires, and its true feature too [G, F].
        true, found: tokens on which each true feature fires, and its feature too [G, A].
    """

    matches: Matches
    tokens: Int[Tensor, " G"]
    fired: Int[Tensor, "G F"]
    hit: Int[Tensor, "G F"]
    true: Int[Tensor, "G A"]
    found: Int[Tensor, "G A"]

    @classmethod
    def of(cls, matches: Matches) -> FiringCounts:
        """Before anything was seen."""

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(GROUPS, *shape, dtype=torch.int64)

        n_features, n_true = (len(each.index) for each in matches)
        return cls(matches, zeros(), zeros(n_features), zeros(n_features), zeros(n_true), zeros(n_true))

    def add(self, seen: EncodedTruth) -> None:
        """Add tokens."""
        fires, codes, n_true = (seen.encoded.f > 0).cpu(), seen.codes, self.true.shape[1]
        group = torch.arange(seen.first, seen.first + codes.n_rows) % GROUPS
        token, feature = fires.nonzero(as_tuple=True)
        there = codes.rows * n_true + codes.indices  # rising: rows after each other, in each by feature
        wanted = token * n_true + self.matches.of_feature.index[feature]
        place = torch.searchsorted(there, wanted).clamp_max(max(0, len(there) - 1))
        hit = there[place] == wanted if len(there) else torch.zeros_like(wanted, dtype=torch.bool)
        found = fires[codes.rows, self.matches.of_truth.index[codes.indices]]
        self.tokens += torch.bincount(group, minlength=GROUPS)
        self.fired += _counted(group[token], feature, self.fired)
        self.hit += _counted(group[token[hit]], feature[hit], self.hit)
        self.true += _counted(group[codes.rows], codes.indices, self.true)
        self.found += _counted(group[codes.rows[found]], codes.indices[found], self.found)

    def merge(self, other: FiringCounts) -> FiringCounts:
        """The counts of both parts."""
        both = (getattr(self, name) + getattr(other, name) for name in ("tokens", "fired", "hit", "true", "found"))
        return FiringCounts(self.matches, *both)

    def results(self) -> dict[str, float | int | None]:
        """Figures with their errors and intervals; None for those of features where none fires."""
        wanted = self.true[:, self.matches.of_feature.index]
        fired, fires = self.fired.sum(dim=0) > 0, self.true.sum(dim=0) > 0
        estimates = {
            "precision": self._mean_ratio(self.hit, self.fired, fired),
            "recall": self._mean_ratio(self.hit, wanted, fired),
            "f1": self._mean_ratio(2 * self.hit, self.fired + wanted, fired),
            "truth_recall": self._mean_ratio(self.found, self.true, fires),
            "truth_recall_weighted": self._mean_ratio(*(each.sum(1, True) for each in (self.found, self.true))),
        }
        return {
            **{name: value for key, each in estimates.items() for name, value in _named(key, each)},
            "truth_l0": int(self.true.sum()) / int(self.tokens.sum()),
            "truth_fired": int(fires.sum()),
        }

    def _mean_ratio(
        self, above: Int[Tensor, "G K"], below: Int[Tensor, "G K"], of: Tensor | slice = slice(None)
    ) -> Estimate:
        """The mean over some columns of Σ above / Σ below, 0 where that is 0 / 0, with its error over groups of tokens,
        by the delta method."""
        above, below = above[:, of].double(), below[:, of].double()
        if not above.shape[1]:
            return NO_ESTIMATE
        total = below.sum(dim=0)
        ratio = above.sum(dim=0) / total.clamp_min(1)
        groups = self.tokens > 0
        influence = ((above - ratio * below) / total.clamp_min(1)).mean(dim=1)[groups]
        value = float(ratio.mean())
        if len(influence) < LEAST_DOCUMENTS:
            return Estimate(value)
        return with_interval(value, standard_error(influence), len(influence) - 1)


def _counted(group: Int[Tensor, " E"], column: Int[Tensor, " E"], like: Int[Tensor, "G K"]) -> Int[Tensor, "G K"]:
    """How often each group has each column."""
    return torch.bincount(group * like.shape[1] + column, minlength=like.numel()).view(like.shape)


def _named(key: str, estimate: Estimate) -> Iterator[tuple[str, float | None]]:
    yield from zip((key, f"{key}_se", f"{key}_low", f"{key}_high"), estimate, strict=True)
