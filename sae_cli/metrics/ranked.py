"""How well features tell tokens of one class from those of another: AUROC, average precision, thresholds; all features
of a dictionary at once, from the entries that are not zero.

A feature's score is its activation. Tokens on which it is zero all tie, and stand after the others. In each column the
entries are sorted downwards, and equal ones form a group: a threshold lies between groups, never inside one.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array


class Curves(NamedTuple):
    """What is counted at the end of the group of each entry, in the order of `RankedFeatures`.

    Attributes:
        tp, fp: tokens of the class and others with at least this value [E], float64.
        tp_before, fp_before: those with a larger one [E].
        rest_tp, rest_fp: those that have an entry, by feature [F].
        positives, negatives: tokens of the two classes.
    """

    tp: np.ndarray
    fp: np.ndarray
    tp_before: np.ndarray
    fp_before: np.ndarray
    rest_tp: np.ndarray
    rest_fp: np.ndarray
    positives: int
    negatives: int


class RankedFeatures:
    """The entries of a matrix [N, F] by column, in each from the largest down; what is left out is below all.

    Args:
        rows, columns: of the entries [E].
        values: theirs [E].
        shape: N and F.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> None:
        order = _downwards(columns, values, shape[1])
        self.rows, self.columns, self.values = rows[order], columns[order], values[order]
        self.n, self.n_features = shape
        self.counts = np.bincount(self.columns, minlength=self.n_features)
        self.starts = np.append(0, np.cumsum(self.counts))

    @classmethod
    def of_dense(cls, values: np.ndarray) -> RankedFeatures:
        """Of a matrix [N, F] in which zeros are numbers like others."""
        n, n_features = values.shape
        columns = np.repeat(np.arange(n_features), n)
        by_column = np.ascontiguousarray(values.T)
        rows = np.argsort(-by_column, axis=1)
        ranked = cls.__new__(cls)
        ranked.rows, ranked.columns = rows.ravel(), columns
        ranked.values = np.take_along_axis(by_column, rows, axis=1).ravel()
        ranked.n, ranked.n_features = n, n_features
        ranked.counts, ranked.starts = np.full(n_features, n), np.arange(n_features + 1) * n
        return ranked

    @cached_property
    def _last(self) -> np.ndarray:
        """The last entry of the group of each entry [E]."""
        ends = np.ones(len(self.values), dtype=bool)
        ends[:-1] = (np.diff(self.values) != 0) | (np.diff(self.columns) != 0)
        places = np.flatnonzero(ends)
        return places[np.searchsorted(places, np.arange(len(ends)))]

    @cached_property
    def _first(self) -> np.ndarray:
        """The first entry of the group of each entry [E]."""
        begins = np.ones(len(self.values), dtype=bool)
        begins[1:] = (np.diff(self.values) != 0) | (np.diff(self.columns) != 0)
        return np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))

    def curves(self, is_positive: np.ndarray) -> Curves:
        """Counts at every group.

        Args:
            is_positive: which tokens are of the class, bool [N].
        """
        of_class = is_positive[self.rows]
        tp = np.append(0, np.cumsum(of_class, dtype=np.int64))
        number = np.arange(len(of_class) + 1)
        start = self.starts[self.columns]
        first, last = self._first, self._last + 1
        positives = int(is_positive.sum())
        ends, begins = self.starts[1:], self.starts[:-1]
        rest_tp = tp[ends] - tp[begins]
        return Curves(
            tp=tp[last] - tp[start],
            fp=number[last] - tp[last] - (start - tp[start]),
            tp_before=tp[first] - tp[start],
            fp_before=number[first] - tp[first] - (start - tp[start]),
            rest_tp=rest_tp,
            rest_fp=self.counts - rest_tp,
            positives=positives,
            negatives=self.n - positives,
        )

    def auroc(self, is_positive: np.ndarray) -> np.ndarray:
        """P(f+ > f-) + P(f+ = f-)/2 of each feature, float64 [F]."""
        return self.aurocs(is_positive[None])[0]

    def aurocs(self, labels: np.ndarray) -> np.ndarray:
        """The same for several labellings of the tokens.

        Args:
            labels: bool [L, N].

        Returns:
            float64 [L, F]: the ranks of the positives, summed, are P(P + 1)/2 + P · N · AUROC (Mann and Whitney).
        """
        positives = labels.sum(axis=1)[:, None].astype(np.float64)
        above = (self._ranks @ labels.T.astype(np.float64)).T
        total = above + positives * self._rest_rank
        return (total - positives * (positives + 1) / 2) / (positives * (self.n - positives))

    @cached_property
    def _rest_rank(self) -> np.ndarray:
        """The rank, from 1 upwards, that tokens without an entry share [F]."""
        return (self.n - self.counts + 1) / 2

    @cached_property
    def _ranks(self) -> csr_array:
        """How much higher the rank of each entry is [F, N]; equal values share theirs."""
        start = self.starts[self.columns]
        rank = self.n - (self._first + self._last) / 2 + start
        more = rank - self._rest_rank[self.columns]
        return csr_array((more, self.rows, self.starts), shape=(self.n_features, self.n))

    def average_precision(self, curves: Curves) -> np.ndarray:
        """The sum over groups of precision times the recall that each adds [F]."""
        use = self._last == np.arange(len(self.values))
        gained = (curves.tp - curves.tp_before)[use] * curves.tp[use] / (curves.tp + curves.fp)[use]
        total = np.bincount(self.columns[use], weights=gained, minlength=self.n_features)
        rest = (curves.positives - curves.rest_tp) * curves.positives / self.n
        return (total + rest) / curves.positives

    def best_thresholds(self, curves: Curves, least_recall: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """For each feature the value from which on tokens are taken for the class so that F1 is largest, and that F1;
        infinity and 0 of a feature that reaches no such recall where it has entries [F] [F]. It lies half-way to the
        next smaller value, if there is one: to 0 where tokens have no entry."""
        f1 = 2 * curves.tp / (curves.tp + curves.fp + curves.positives)
        f1[curves.tp < least_recall * curves.positives] = -1.0
        threshold, best = np.full(self.n_features, np.inf), np.zeros(self.n_features)
        order = np.lexsort((-f1, self.columns))
        filled = np.flatnonzero(self.counts)
        chosen = order[self.starts[:-1][filled]]
        kept = f1[chosen] > 0
        threshold[filled[kept]], best[filled[kept]] = self._half_way(chosen[kept]), f1[chosen[kept]]
        return threshold, best

    def _half_way(self, chosen: np.ndarray) -> np.ndarray:
        """From the values of these entries to the next smaller ones of their columns."""
        values, columns = self.values[chosen].astype(np.float64), self.columns[chosen]
        following = self._last[chosen] + 1
        inside = following < self.starts[columns + 1]
        lower = np.where(inside, self.values[np.minimum(following, len(self.values) - 1)], 0.0)
        has_lower = inside | (self.counts[columns] < self.n)
        return np.where(has_lower, (values + lower) / 2, values)

    def at_thresholds(self, thresholds: np.ndarray, is_positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of the class, and others, with at least these values [F] [F]."""
        above = self.values >= thresholds[self.columns]
        of_class = is_positive[self.rows]
        tp = np.bincount(self.columns[above & of_class], minlength=self.n_features)
        return tp, np.bincount(self.columns[above], minlength=self.n_features) - tp

    def influence(self, curves: Curves, is_positive: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
        """What each document adds to the AUROC of each feature, less what it would add by its size [F, G]: the sum of
        the placement values of its tokens, less their mean (DeLong et al. 1988, summed by document).

        Args:
            curves: of these labels.
            is_positive: them [N].
            group: the document of each token, from 0 to n_groups - 1 [N].
            n_groups: documents.
        """
        P, N = curves.positives, curves.negatives
        positive = is_positive[self.rows]
        of_positive = (N - (curves.fp + curves.fp_before) / 2) / N
        of_negative = (curves.tp + curves.tp_before) / 2 / P
        rest_positive = (N - curves.rest_fp) / 2 / N
        rest_negative = (P + curves.rest_tp) / 2 / P
        more = np.where(
            positive, (of_positive - rest_positive[self.columns]) / P, (of_negative - rest_negative[self.columns]) / N
        )
        place = self.columns * n_groups + group[self.rows]
        found = np.bincount(place, weights=more, minlength=self.n_features * n_groups)
        found = found.reshape(self.n_features, n_groups)
        sizes = [np.bincount(group[chosen], minlength=n_groups) for chosen in (is_positive, ~is_positive)]
        total = self.auroc(is_positive)[:, None]
        found += (rest_positive[:, None] - total) * sizes[0] / P
        found += (rest_negative[:, None] - total) * sizes[1] / N
        return found


def _downwards(columns: np.ndarray, values: np.ndarray, n_columns: int) -> np.ndarray:
    """The order of entries by column, in each from the largest value down."""
    order = np.argsort(-values)
    narrow = columns[order].astype(np.uint16) if n_columns <= 2**16 else columns[order]
    return order[np.argsort(narrow, kind="stable")]  # numpy sorts numbers of 16 bits by their digits
