"""Whether two recipes differ in a figure: paired by seed and by row of text, with what both add to the error.

For seed s the difference is D_s = figure(A_s) - figure(B_s), measured on the same rows of text. Seeds and documents are
crossed random effects: SE² = Var(D_s) / S + SE²_documents(mean of D_s). It counts the measuring error of each seed
twice, which makes it slightly too large, not too small. The interval reaches √((t(S-1)·SE_seeds)² +
(t(G-1)·SE_documents)²) to either side, t Student's quantiles for S seeds and G documents: with its own degrees of
freedom for each part it covers at least as often as it says, whatever the variances are (Banerjee 1960, Sankhyā 22). By
Satterthwaite's rule equal recipes would be told apart too often where there are few seeds.

A figure that has no sums by document, as one of the features or of a comparison with a known truth, is over seeds
alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import torch

from sae_cli.metrics.row_sums import CONFIDENCE, OfTotals, RowSums, standard_error, t_quantile
from sae_cli.tensor_types import Float, Tensor

LEVEL = 1 - CONFIDENCE
"""Of all tests, after Holm's correction for several figures."""
_LEAST_P = 1e-12
"""No p-value is said to be smaller."""
_MOST_SEEDS = 1000
_CERTAIN = 30
"""Standard errors from which on an effect is never missed, and the noncentral distribution cannot be computed."""


class Verdict(Enum):
    """What a contrast says of A and B. `UNDECIDED`: neither that they differ nor that they are the same within what
    matters; `ONE_PAIR`: of the two dictionaries only, not of how they were made."""

    A_HIGHER = "a_higher"
    B_HIGHER = "b_higher"
    SAME = "same"
    UNDECIDED = "undecided"
    ONE_PAIR = "one_pair"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True)
class Difference:
    """The difference of a figure between A and B.

    Attributes:
        a, b: means of the figure over the seeds.
        effect: a - b.
        seeds, documents: how many pairs, and documents, it is over; `documents` is None for a figure that has no sums
            by document: its unit is the seed alone.
        seed_se, document_se: standard errors of the effect from the differences between seeds, and between documents;
            None where there is one seed, or too few documents.
        material: the size of a difference that matters; 0 where none is known, and so none is too small.
        holm: by how much Holm's correction multiplies the p-value that the two differ, and that they are the same.
    """

    a: float
    b: float
    seeds: int
    documents: int | None
    seed_se: float | None
    document_se: float | None
    material: float
    holm: tuple[float, float] = (1.0, 1.0)

    @property
    def effect(self) -> float:
        return self.a - self.b

    @property
    def se(self) -> float | None:
        """The standard error of the effect; of one pair that over documents alone. Differences of a figure of seeds
        that are all the same, as those of small counts may be, say nothing of how far they spread."""
        if self.documents is None:
            return self.seed_se or None
        if self.document_se is None:
            return None
        return math.hypot(self.seed_se or 0.0, self.document_se)

    def reach(self, level: float) -> float:
        """How far an interval that misses the truth at most so often reaches to either side."""
        of_seeds = t_quantile(self.seeds - 1, 1 - level) * self.seed_se if self.seed_se else 0.0
        of_documents = t_quantile((self.documents or 2) - 1, 1 - level) * self.document_se if self.document_se else 0.0
        return math.hypot(of_seeds, of_documents)

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.se is None:
            return None
        half = self.reach(LEVEL)
        return self.effect - half, self.effect + half

    def _level(self, distance: float) -> float:
        """The level at which an interval reaches so far."""
        if not self.se:
            return 0.0 if distance > 0 else 1.0
        low, high = _LEAST_P, 1.0
        if distance >= self.reach(low):
            return low
        while high > low * (1 + 1e-9):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.reach(middle) < distance else (middle, high)
        return high

    @property
    def p(self) -> float | None:
        """That A and B do not differ, two-sided; before correction."""
        return None if self.se is None else self._level(abs(self.effect))

    @property
    def p_same(self) -> float | None:
        """That they differ by at least what matters: the larger of two one-sided tests; before correction."""
        if self.se is None or not self.material:
            return None
        inside = self.material - abs(self.effect)
        level = self._level(abs(inside)) / 2
        return level if inside > 0 else 1 - level

    @property
    def verdict(self) -> Verdict:
        if self.seeds < 2 and (self.documents is None or self.se is not None):
            return Verdict.ONE_PAIR
        if self.p is None:
            return Verdict.NOT_MEASURED
        if self.p * self.holm[0] <= LEVEL:
            return Verdict.A_HIGHER if self.effect > 0 else Verdict.B_HIGHER
        return Verdict.SAME if self.is_within else Verdict.UNDECIDED

    @property
    def is_within(self) -> bool:
        """Whether the difference is smaller than what matters."""
        return self.seeds > 1 and self.p_same is not None and self.p_same * self.holm[1] <= LEVEL

    @property
    def seeds_needed(self) -> int | None:
        """With how many seeds, as far apart as these and on this text, the interval would reach no further than what
        matters; None where no number would do, and there has to be more text."""
        if self.seed_se is None or self.se is None or not self.material:
            return None
        for n in range(2, _MOST_SEEDS + 1):
            of_n = replace(self, seeds=n, seed_se=self.seed_se * math.sqrt(self.seeds / n))
            if of_n.reach(LEVEL) <= self.material:
                return n
        return None

    def power(self, effect: float) -> float | None:
        """The probability that an effect of this size, measured with these errors, is told from none, the right way."""
        if self.se is None:
            return None
        from scipy.stats import nct

        quantile = self.reach(LEVEL) / self.se if self.se else 0.0
        shift = abs(effect) / self.se if self.se else math.inf
        if shift > _CERTAIN + quantile:
            return 1.0
        parts = ((self.seed_se, self.seeds), (self.document_se, self.documents))
        spread = sum(se**4 / (n - 1) for se, n in parts if se and n)
        return float(nct.sf(quantile, self.se**4 / spread, shift))


def difference(pairs: Sequence[tuple[RowSums, RowSums]], figure: OfTotals, material: float) -> Difference | None:
    """The difference of a figure between the first and the second of each pair, which are of the same rows of text;
    None where the figure does not exist for one of them.

    Args:
        pairs: one for each seed.
        figure: of the totals.
        material: the size of a difference that matters.
    """
    return difference_of_totals([((a,), (b,)) for a, b in pairs], figure, material)


def difference_of_totals(
    pairs: Sequence[tuple[Sequence[RowSums], Sequence[RowSums]]], figure: OfTotals, material: float
) -> Difference | None:
    """The same of a figure that is added up over several dictionaries on either side, as over the layers of a model.

    Args:
        pairs: one for each seed; all are of the same rows of text.
        figure: of the totals of one dictionary.
        material: the size of a difference that matters.
    """
    values, influences = [], []
    for pair in pairs:
        totals: list[float] = []
        influence: Tensor | None = torch.zeros((), dtype=torch.float64)
        for sign, side in zip((1, -1), pair, strict=True):
            found = [sums.influence(figure) for sums in side]
            assert all(each.is_of_same_rows(pair[0][0]) for each in side)
            known = [value for value, _ in found if value is not None]
            if len(known) < len(found):
                return None
            totals.append(sum(known))
            for _, each in found:
                influence = None if influence is None or each is None else influence + sign * each
        values.append((totals[0], totals[1]))
        influences.append(influence)
    return _over_seeds(values, influences, pairs[0][0][0].documents, material)


def mean_of(sums: Sequence[RowSums], figure: OfTotals, material: float) -> Difference | None:
    """The mean of a figure over seeds, as its difference from nothing; as `difference`."""
    found = [each.influence(figure) for each in sums]
    values = [(value, 0.0) for value, _ in found if value is not None]
    if len(values) < len(found):
        return None
    return _over_seeds(values, [influence for _, influence in found], sums[0].documents, material)


def over_seeds(values: Sequence[tuple[float, float]], material: float) -> Difference:
    """The difference of a figure whose unit is the seed: the values of A and of B for each."""
    return _over_seeds(values, [], None, material)


def _over_seeds(
    values: Sequence[tuple[float, float]],
    influences: Sequence[Float[Tensor, " G"] | None],
    documents: int | None,
    material: float,
) -> Difference:
    a, b = (sum(each[i] for each in values) / len(values) for i in (0, 1))
    differences = torch.tensor([a - b for a, b in values], dtype=torch.float64)
    known = [each for each in influences if each is not None]
    measured = documents is not None and len(known) == len(influences)
    return Difference(
        a=a,
        b=b,
        seeds=len(values),
        documents=documents,
        seed_se=float(differences.std()) / math.sqrt(len(values)) if len(values) > 1 else None,
        document_se=standard_error(torch.stack(known).mean(dim=0)) if measured else None,
        material=material,
    )


def corrected(found: Sequence[Difference]) -> list[Difference]:
    """The same with Holm's correction over all of them, for either kind of verdict."""
    differ, same = (holm([getattr(each, name) for each in found]) for name in ("p", "p_same"))
    return [replace(each, holm=factors) for each, factors in zip(found, zip(differ, same, strict=True), strict=True)]


def holm(p: Sequence[float | None]) -> list[float]:
    """By how much Holm's step-down procedure (1979) multiplies each p-value; 1 for those that there are not."""
    known = sorted((value, number) for number, value in enumerate(p) if value is not None)
    factors, highest = [1.0] * len(p), 0.0
    for rank, (value, number) in enumerate(known):
        highest = max(highest, value * (len(known) - rank))
        factors[number] = highest / value if value > 0 else 1.0
    return factors
