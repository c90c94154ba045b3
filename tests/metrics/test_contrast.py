"""Contrasts: errors against numpy, false verdicts and power by simulation, Holm against its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sae_cli.metrics.contrast import Difference, Verdict, corrected, difference, difference_of_totals, holm, over_seeds
from sae_cli.metrics.contrast_lines import difference_of, line_of
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS, RowPlaces, RowSums, t_quantile
from tests.known import present

RATIO = "y"


def mean(s):
    return s["y"] / s["n"]


def sums(y, document):
    rows = RowPlaces(torch.as_tensor(document), torch.arange(len(document)))
    return RowSums.of(rows, n=torch.ones(len(document)).double(), y=torch.as_tensor(y).double())


def drawn(rng, seeds, documents, effect=0.0, of_seed=1.0, of_document=1.0, of_both=0.5, rows=3):
    """Pairs whose differences have these variances, and figures that vary far more between documents."""
    document = np.repeat(np.arange(documents), rows)
    level = rng.normal(0, 10, documents)[document]
    shift = rng.normal(0, of_document, documents)[document]
    pairs = []
    for _ in range(seeds):
        own = rng.normal(0, of_seed) + rng.normal(0, of_both, documents)[document]
        pairs.append((sums(level + shift + own + effect, document), sums(level, document)))
    return pairs


def test_against_numpy():
    rng = np.random.default_rng(0)
    pairs = drawn(rng, seeds=3, documents=20)
    found = difference(pairs, mean, material=1.0)
    assert found is not None
    by_row = np.stack([(a.column("y") - b.column("y")).numpy() for a, b in pairs])
    effect = by_row.mean()
    # Documents are equally long: the mean over documents of a document's mean.
    by_document = by_row.mean(axis=0).reshape(20, -1).mean(axis=1)
    of_documents = by_document.std(ddof=1) / math.sqrt(20)
    of_seeds = by_row.mean(axis=1).std(ddof=1) / math.sqrt(3)
    assert found.effect == pytest.approx(effect)
    assert found.document_se == pytest.approx(of_documents)
    assert found.seed_se == pytest.approx(of_seeds)
    assert found.se == pytest.approx(math.hypot(of_documents, of_seeds))
    half = math.hypot(4.302653 * of_seeds, 2.093024 * of_documents)
    assert found.interval == pytest.approx((effect - half, effect + half))


def test_pairing_takes_out_what_both_share():
    """The documents differ a hundred times more than A and B do."""
    rng = np.random.default_rng(1)
    pairs = drawn(rng, seeds=3, documents=30, effect=1.0, of_seed=0.05, of_document=0.05, of_both=0.05)
    found = difference(pairs, mean, material=0.1)
    assert found is not None
    assert found.verdict is Verdict.A_HIGHER
    assert found.se is not None
    assert found.se < 0.1
    alone = pairs[0][0].estimate(mean)
    assert alone.se is not None
    assert alone.se > 1


VARIANCES = [(1.0, 0.0, 1000), (0.0, 1.0, 1000), (1.0, 3.0, 1000), (3.0, 1.0, 400), (10.0, 1.0, 400)]
"""Of seeds and of documents, and how many contrasts are drawn."""


def told_apart(seeds, of_seed, of_document, n):
    """How often equal recipes are."""
    rng = np.random.default_rng(seeds)
    pairs = (drawn(rng, seeds, 16, 0.0, of_seed, of_document, rows=1) for _ in range(n))
    found = [present(difference(each, mean, material=1e-9)).verdict for each in pairs]
    return sum(each in (Verdict.A_HIGHER, Verdict.B_HIGHER) for each in found) / n


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_recipes_are_seldom_told_apart(seeds):
    n = 100
    assert told_apart(seeds, 1.0, 1.0, n) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(("of_seed", "of_document", "n"), VARIANCES)
def test_equal_recipes_are_told_apart_in_five_of_a_hundred(seeds, of_seed, of_document, n):
    assert told_apart(seeds, of_seed, of_document, n) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / n)


def test_an_effect_is_found_as_often_as_was_predicted():
    rng = np.random.default_rng(7)
    seeds, documents, effect, n = 5, 16, 1.6, 200
    truth = Difference(1, 0, seeds, documents, 1 / math.sqrt(seeds), 1 / math.sqrt(documents), material=1)
    predicted = truth.power(effect)
    drawn_pairs = (drawn(rng, seeds, documents, effect, 1.0, 1.0, of_both=0.0, rows=1) for _ in range(n))
    p = [present(present(difference(pairs, mean, 1)).p) for pairs in drawn_pairs]
    found = sum(each <= 0.05 for each in p) / n
    assert predicted is not None
    assert 0.5 < predicted < 0.95
    assert found == pytest.approx(predicted, abs=0.1)


def test_a_p_value_is_the_level_whose_interval_ends_at_nothing():
    found = Difference(a=1.0, b=0.0, seeds=3, documents=20, seed_se=0.2, document_se=0.3, material=2.0)
    assert found.p is not None
    assert found.reach(found.p) == pytest.approx(1.0, rel=1e-6)
    assert found.reach(2 * present(found.p_same)) == pytest.approx(1.0, rel=1e-6)
    beyond = Difference(a=3.0, b=0.0, seeds=3, documents=20, seed_se=0.2, document_se=0.3, material=2.0)
    assert beyond.p_same == pytest.approx(1 - present(found.p_same))
    student = Difference(a=0.9, b=0.0, seeds=4, documents=None, seed_se=0.3, document_se=None, material=0.1)
    assert student.p == pytest.approx(0.0576688, rel=1e-4)  # of t = 3 with 3 degrees of freedom
    assert student.verdict is Verdict.UNDECIDED


def test_seeds_that_differ_by_the_same_say_nothing_of_their_spread():
    """As counts of features may."""
    same = over_seeds([(3.0, 2.0), (5.0, 4.0)], material=0.0)
    assert (same.se, same.p, same.verdict) == (None, None, Verdict.NOT_MEASURED)
    assert over_seeds([(3.0, 2.0)], material=0.0).verdict is Verdict.ONE_PAIR
    assert over_seeds([(3.0, 2.0), (5.0, 4.1), (5.0, 4.05)], material=0.0).verdict is Verdict.A_HIGHER


def test_one_pair_has_an_interval_and_no_verdict():
    rng = np.random.default_rng(2)
    found = difference(drawn(rng, seeds=1, documents=30, effect=50.0), mean, material=1.0)
    assert found is not None
    assert found.interval is not None
    assert found.interval[0] > 0
    assert found.verdict is Verdict.ONE_PAIR
    assert found.seeds_needed is None


def test_too_few_documents():
    rng = np.random.default_rng(3)
    found = difference(drawn(rng, seeds=3, documents=LEAST_DOCUMENTS - 1), mean, material=1.0)
    assert found is not None
    assert found.se is None
    assert found.interval is None
    assert found.verdict is Verdict.NOT_MEASURED


def test_words():
    base = {"b": 0.0, "seeds": 5, "documents": 40, "material": 1.0}
    assert Difference(a=3.0, seed_se=0.5, document_se=0.5, **base).verdict is Verdict.A_HIGHER
    assert Difference(a=-3.0, seed_se=0.5, document_se=0.5, **base).verdict is Verdict.B_HIGHER
    assert Difference(a=0.1, seed_se=0.1, document_se=0.1, **base).verdict is Verdict.SAME
    assert Difference(a=0.5, seed_se=0.4, document_se=0.1, **base).verdict is Verdict.UNDECIDED
    small = Difference(a=0.2, seed_se=0.01, document_se=0.01, **base)
    assert small.verdict is Verdict.A_HIGHER
    assert small.is_within


def test_totals_over_several_dictionaries_against_numpy():
    """A's two together against B: as over layers that are replaced one by one."""
    rng = np.random.default_rng(4)
    document = np.repeat(np.arange(12), 2)
    y = rng.normal(0, 1, (3, 3, 24))  # seeds, dictionaries, rows
    pairs = [((sums(first, document), sums(second, document)), (sums(other, document),)) for first, second, other in y]
    found = present(difference_of_totals(pairs, mean, 1.0))
    by_row = y[:, 0] + y[:, 1] - y[:, 2]
    assert found.effect == pytest.approx(by_row.mean())
    assert found.seed_se == pytest.approx(by_row.mean(axis=1).std(ddof=1) / math.sqrt(3))
    by_document = by_row.mean(axis=0).reshape(12, 2).mean(axis=1)
    assert found.document_se == pytest.approx(by_document.std(ddof=1) / math.sqrt(12))
    (first, _), (other,) = pairs[0]
    assert found.a == pytest.approx((y[:, 0] + y[:, 1]).mean())
    assert difference([(first, other)], mean, 1.0) == difference_of_totals([((first,), (other,))], mean, 1.0)


def test_a_line_is_the_difference_again():
    found = Difference(1.0, 0.0, 3, 100, seed_se=0.4, document_se=0.02, material=0.2)
    assert difference_of(line_of("fvu", None, found)) == found


def test_identical_dictionaries_are_the_same():
    document = np.repeat(np.arange(10), 2)
    one = sums(np.arange(20.0), document)
    found = difference([(one, one), (one, one)], mean, material=0.1)
    assert found is not None
    assert (found.effect, found.se, found.p) == (0.0, 0.0, 1.0)
    assert found.verdict is Verdict.SAME


def test_seeds_needed_is_when_the_interval_fits():
    found = Difference(1.0, 0.0, 3, 100, seed_se=0.4, document_se=0.02, material=0.2)
    n = found.seeds_needed
    assert n is not None
    half = [math.hypot(t_quantile(k - 1) * 0.4 * math.sqrt(3 / k), t_quantile(99) * 0.02) for k in (n - 1, n)]
    assert half[0] > 0.2 >= half[1]
    assert Difference(1.0, 0.0, 3, 100, seed_se=0.4, document_se=0.2, material=0.2).seeds_needed is None


def test_holm():
    p = [0.01, 0.04, 0.03, None, 0.005]
    adjusted = [factor * value for factor, value in zip(holm(p), p, strict=True) if value is not None]
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_several_figures_are_corrected_together():
    one = Difference(a=2.5, b=0.0, seeds=20, documents=40, seed_se=1.0, document_se=0.1, material=1e-6)
    assert one.verdict is Verdict.A_HIGHER
    assert [each.verdict for each in corrected([one] * 5)] == [Verdict.UNDECIDED] * 5, [
        each.p for each in corrected([one] * 5)
    ]
