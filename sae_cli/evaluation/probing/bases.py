"""What tokens are told apart by: features of a dictionary, and what these are held against."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from sae_cli.config.probe import ProbeBasis
from sae_cli.evaluation.baselines import Bases
from sae_cli.evaluation.probing.capture import Captured
from sae_cli.evaluation.probing.samples import Sample, Seen, Tokens, only_seen
from sae_cli.metrics.ranked import RankedFeatures
from sae_cli.seeds import generator

_FITTED_TO = 32_768
"""Activations that bases are fitted to."""


class Basis(ABC):
    """Scores of n tokens by `n_features` features.

    Attributes:
        name: what it is called.
        n_features: how many there are to choose from.
    """

    name: str
    n_features: int

    @abstractmethod
    def ranked(self, rows: np.ndarray) -> RankedFeatures:
        """The scores of some tokens [n], sorted."""

    @abstractmethod
    def dense(self, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        """The scores of some tokens by some features, float64 [n, k]."""

    @abstractmethod
    def separation(self, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The difference of the class means of each feature, in pooled standard deviations [F]."""


class SparseBasis(Basis):
    """Features that are zero on most tokens."""

    def __init__(self, name: str, starts: np.ndarray, columns: np.ndarray, values: np.ndarray, n_features: int) -> None:
        self.name, self.n_features = name, n_features
        self._starts, self._columns, self._values = starts, columns, values

    @classmethod
    def of(cls, name: str, captured: Captured) -> SparseBasis:
        """The features of a dictionary."""
        return cls(name, captured.starts, captured.columns, captured.values, captured.n_features)

    def entries(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of some tokens: the place of each among these, the feature, the value."""
        counts = self._starts[rows + 1] - self._starts[rows]
        ends = np.cumsum(counts)
        place = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(self._starts[rows] - (ends - counts), counts)
        return np.repeat(np.arange(len(rows)), counts), self._columns[place], self._values[place]

    def ranked(self, rows: np.ndarray) -> RankedFeatures:
        return RankedFeatures(*self.entries(rows), (len(rows), self.n_features))

    def dense(self, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        place = np.full(self.n_features, -1)
        place[features] = np.arange(len(features))
        row, column, value = self.entries(rows)
        kept = place[column] >= 0
        found = np.zeros((len(rows), len(features)))
        found[row[kept], place[column[kept]]] = value[kept]
        return found

    def separation(self, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
        row, column, value = self.entries(rows)
        value = value.astype(np.float64)
        sums = [
            np.bincount(column[chosen], weights=value[chosen] ** power, minlength=self.n_features)
            for chosen in (y[row], ~y[row])
            for power in (1, 2)
        ]
        return _separation(sums[0], sums[1], sums[2], sums[3], int(y.sum()), int((~y).sum()))


class DenseBasis(Basis):
    """Coordinates, which have either sign on every token.

    Args:
        name: what it is called.
        values: of all tokens [n, K].
    """

    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.n_features, self._values = name, values.shape[1], values

    def ranked(self, rows: np.ndarray) -> RankedFeatures:
        return RankedFeatures.of_dense(self._values[rows])

    def dense(self, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
        return self._values[np.ix_(rows, features)].astype(np.float64)

    def separation(self, rows: np.ndarray, y: np.ndarray) -> np.ndarray:
        own = self._values[rows].astype(np.float64)
        sums = [(own[chosen] ** power).sum(axis=0) for chosen in (y, ~y) for power in (1, 2)]
        return _separation(sums[0], sums[1], sums[2], sums[3], int(y.sum()), int((~y).sum()))


def _separation(
    of_class: np.ndarray, squares: np.ndarray, others: np.ndarray, others_squared: np.ndarray, n: int, m: int
) -> np.ndarray:
    within = squares - of_class**2 / n + others_squared - others**2 / m
    spread = np.sqrt(np.maximum(within, 0) / max(1, n + m - 2))
    apart = np.abs(of_class / n - others / m)
    return np.divide(apart, spread, out=np.where(apart > 0, np.inf, 0.0), where=spread > 0)


def token_scores(fit: Seen, tokens: Tokens, words: int) -> np.ndarray:
    """How much more often the current token, or the last two, are of the concept: log-odds on the tokens for fitting,
    with half a token of each class added; 0 of what does not occur there. A pair that does not occur has the score of
    its second token. float64 [N]

    Args:
        fit: tokens for fitting.
        tokens: all of them.
        words: 1 or 2.
    """
    index, y = only_seen(fit)
    scores = _log_odds(tokens.token, index, y)
    if words == 1:
        return np.nan_to_num(scores, nan=0.0)
    width = int(tokens.token.max()) + 2
    pairs = _log_odds((tokens.previous + 1) * width + tokens.token, index, y)
    return np.where(np.isnan(pairs), np.nan_to_num(scores, nan=0.0), pairs)


def _log_odds(key: np.ndarray, index: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each token [N]; NaN of a key that does not occur."""
    known, place = np.unique(key[index], return_inverse=True)
    counts = [np.bincount(place[chosen], minlength=len(known)) + 0.5 for chosen in (y, ~y)]
    odds = np.log(counts[0] / counts[1])
    at = np.minimum(np.searchsorted(known, key), len(known) - 1)
    return np.where(known[at] == key, odds[at], np.nan)


@dataclass(frozen=True)
class BasisMaker:
    """Makes what features are held against.

    Attributes:
        captured: activations, and the features.
        fitted: which of the tokens bases and thresholds may be taken from; some of these are, at random [n].
        seed: of what is random.
    """

    captured: Captured
    fitted: np.ndarray
    seed: int

    @cached_property
    def _some(self) -> np.ndarray:
        chosen = np.random.default_rng([self.seed, 5]).permutation(len(self.fitted))[:_FITTED_TO]
        return np.sort(self.fitted[chosen])

    def bases(self, asked: Sequence[ProbeBasis]) -> list[Basis]:
        """Those that are asked for, but for those by token.

        Raises:
            RequestError: `ica` without scikit-learn.
        """
        found: list[Basis] = []
        x = torch.from_numpy(self.captured.x)
        some = x[torch.from_numpy(self._some)]
        mean = some.mean(dim=0)
        fits = Bases(some, mean, 1.0, self.seed)
        for each in asked:
            if each is ProbeBasis.directions:
                found.append(self._directions(x, mean))
            elif each is ProbeBasis.neurons:
                found.append(DenseBasis(each.value, self.captured.x))
            elif each not in (ProbeBasis.token, ProbeBasis.token2):
                rows = fits.with_k(each.value, x.shape[1]).W_enc[: x.shape[1]]
                found.append(DenseBasis(each.value, ((x - mean) @ rows.T).numpy()))
        return found

    def _directions(self, x: torch.Tensor, mean: torch.Tensor) -> SparseBasis:
        """Random directions; feature i fires on as large a share of the tokens for fitting as the dictionary's."""
        n_features = self.captured.n_features
        directions = torch.randn(n_features, x.shape[1], generator=generator("probe directions", self.seed))
        directions /= directions.norm(dim=1, keepdim=True)
        counts = np.diff(self.captured.starts)
        row = np.repeat(np.arange(len(counts)), counts)
        is_fitted = np.zeros(len(counts), dtype=bool)
        is_fitted[self.fitted] = True
        fires = np.bincount(self.captured.columns[is_fitted[row]], minlength=n_features)
        some = self._some
        rows, columns, values = [], [], []
        at_once = max(1, 2**24 // len(x))
        for begin in range(0, n_features, at_once):
            scores = ((x - mean) @ directions[begin : begin + at_once].T).numpy()
            for j in range(scores.shape[1]):
                if n := int(fires[begin + j] * len(some) / len(self.fitted)):
                    threshold = np.partition(scores[some, j], len(some) - n)[len(some) - n]
                    above = np.flatnonzero(scores[:, j] >= threshold)
                    rows.append(above)
                    columns.append(np.full(len(above), begin + j))
                    values.append(scores[above, j] - threshold + 1e-6)
        row, column, value = (
            np.concatenate(each) if each else np.zeros(0, np.int64) for each in (rows, columns, values)
        )
        order = np.argsort(row, kind="stable")
        starts = np.append(0, np.cumsum(np.bincount(row, minlength=len(x))))
        name = ProbeBasis.directions.value
        return SparseBasis(name, starts, column[order], value[order].astype(np.float32), n_features)


def token_basis(sample: Sample, tokens: Tokens, chosen: np.ndarray, words: int) -> DenseBasis:
    """The token, or the token pair, as the one feature of chosen tokens [n]."""
    name = (ProbeBasis.token if words == 1 else ProbeBasis.token2).value
    return DenseBasis(name, token_scores(sample.fit, tokens, words)[chosen][:, None])
