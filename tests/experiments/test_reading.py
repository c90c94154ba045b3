"""What the experiments' answers share: figures over seeds, and when one may say which way they point."""

import random
import sys
from pathlib import Path

import pytest

ANSWERS = Path(__file__).parents[2] / "experiments" / "answers"


@pytest.fixture
def reading(monkeypatch):
    monkeypatch.syspath_prepend(str(ANSWERS))
    import reading

    yield reading
    sys.modules.pop("reading")


@pytest.mark.parametrize(
    ("values", "digits", "said"),
    [
        ([0.68598, 0.6861, 0.68622], 3, "0.68610 ± 0.00012"),
        ([0.5, 0.6, 0.7], 3, "0.600 ± 0.100"),
        ([12.0, 12.0], 1, "12.0 ± 0.0"),  # equal to the bit is no rounding
        ([0.686], 3, "0.686"),
        ([0.686, None], 3, "0.686 (1 of 2)"),
        ([None, None], 3, "-"),
    ],
)
def test_an_error_is_shown_with_two_digits_or_not_at_all(reading, values, digits, said):
    assert reading.shown(values, digits) == said


def test_one_seed_decides_nothing(reading):
    assert reading.verdict([0.5], "better", "worse") == "+0.5000: undecided (one seed)"
    assert reading.verdict([0.5], "better", "worse", errors=[0.1]) == "+0.5000 ± 0.1000: undecided (one seed)"


def test_seeds_decide_by_students_interval(reading):
    assert (
        reading.verdict([0.3, 0.4, 0.5], "better", "worse") == "+0.4000 ± 0.0577 (+0.1516 to +0.6484, 3 seeds): better"
    )
    assert (
        reading.verdict([-0.3, -0.4, -0.5], "better", "worse")
        == "-0.4000 ± 0.0577 (-0.6484 to -0.1516, 3 seeds): worse"
    )
    assert reading.verdict([-0.3, 0.4, 0.1], "better", "worse").endswith("3 seeds): undecided")
    assert (
        reading.verdict([0.30001, 0.30002], "better", "worse")
        == "+0.3000150 ± 0.0000050 (+0.2999515 to +0.3000785, 2 seeds): better"
    )
    # 2.8 standard errors of two seeds say nothing yet.
    assert reading.verdict([0.3, 0.6], "better", "worse").endswith("2 seeds): undecided")


def test_the_error_of_measuring_is_not_averaged_away(reading):
    """All seeds are measured on the same text."""
    said = reading.verdict([0.1] * 4, "better", "worse", errors=[0.05] * 4)
    assert said == "+0.1000 ± 0.0500 (-0.0591 to +0.2591, 4 seeds): undecided"


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
def test_equal_recipes_are_seldom_told_apart(reading, seeds):
    rng = random.Random(seeds)
    n = 2000
    said = [reading.verdict([rng.gauss(0, 1) for _ in range(seeds)], "better", "worse") for _ in range(n)]
    told = sum("undecided" not in each for each in said) / n
    assert told < 0.05 + 3 * (0.05 * 0.95 / n) ** 0.5
