"""An n-gram language model with interpolated absolute discounting: the yardstick of the model cards.

p(w|h) = max(c(hw) - D, 0)/c(h) + D·N₁₊(h·)/c(h) · p(w|h'), h' one token shorter, down to the uniform
distribution; for a history that was never seen p(w|h) = p(w|h') (Ney, Essen & Kneser 1994).
"""

from __future__ import annotations

import numpy as np


class AbsoluteDiscountingNgram:
    """Counts of all orders up to `order`, fitted on token rows [rows, context] (ids below 4096)."""

    def __init__(self, rows: np.ndarray, order: int, discount: float) -> None:
        if order * 12 > 62 or rows.max() >= 4096:
            raise ValueError("an n-gram is packed into one int64 of 12 bits a token: order <= 5, ids < 4096")
        self.rows, self.order, self.discount = rows, order, discount
        self.vocabulary = 4096
        # For each order n: the distinct n-grams (sorted) and their counts; order 0 holds the total.
        self.grams = [np.unique(_pack(rows, n), return_counts=True) for n in range(1, order + 1)]
        self.histories = [self._history_table(n) for n in range(1, order + 1)]

    def _history_table(self, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Histories of the n-grams (sorted), their total counts and numbers of distinct followers."""
        grams, counts = self.grams[n - 1]
        histories, starts = np.unique(grams >> 12, return_index=True)
        return histories, np.add.reduceat(counts, starts), np.diff(np.append(starts, len(grams)))

    def cross_entropy(self, rows: np.ndarray, first_target: int) -> float:
        """Mean negative log-probability in nats of the tokens at positions >= first_target of each row."""
        probability = np.full(rows[:, first_target:].shape, 1 / self.vocabulary)
        for n in range(1, self.order + 1):
            probability = self._interpolate(n, rows, first_target, probability)
        return float(-np.log(probability).mean())

    def _interpolate(self, n: int, rows: np.ndarray, first_target: int, lower: np.ndarray) -> np.ndarray:
        grams = _pack(rows, n, pad=True)[:, first_target:]
        usable = np.arange(first_target, rows.shape[1]) >= n - 1  # the history must lie within the row
        history_count, followers = _look_up(grams >> 12, *self.histories[n - 1])
        (count,) = _look_up(grams, *self.grams[n - 1])
        seen = (history_count > 0) & usable
        denominator = np.where(seen, history_count, 1)
        discounted = np.maximum(count - self.discount, 0) + self.discount * followers * lower
        return np.where(seen, discounted / denominator, lower)


def _pack(rows: np.ndarray, n: int, pad: bool = False) -> np.ndarray:
    """Each n-gram as one integer; with `pad`, one for every position (those too early are meaningless)."""
    packed = np.zeros_like(rows)
    for back in range(n - 1, -1, -1):
        shifted = np.zeros_like(rows)
        shifted[:, back:] = rows[:, : rows.shape[1] - back]
        packed = packed << 12 | shifted
    return packed if pad else packed[:, n - 1 :].ravel()


def _look_up(keys: np.ndarray, table: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    index = np.searchsorted(table, keys).clip(max=len(table) - 1)
    found = table[index] == keys
    return tuple(np.where(found, value[index], 0) for value in values)
