"""Places on a curve of references, computed by hand."""

import random

import pytest

from sae_cli.metrics.equivalent_model import (
    BETTER,
    NO_CURVE,
    WORSE,
    WORSE_THAN_SMALLEST,
    Point,
    bracket,
    equivalent_model,
)

CURVE = [Point("l", 1e8, 2.0), Point("s", 1e6, 4.0), Point("m", 1e7, 3.0)]


def test_halfway_in_loss_is_halfway_in_log_size():
    found = equivalent_model(CURVE, 3.5, 0.1)
    assert found.value == pytest.approx(10**6.5)
    assert (found.low, found.high) == (pytest.approx(10**6.4), pytest.approx(10**6.6))
    assert (found.below, found.above, found.outside, found.monotone) == ("s", "m", None, True)
    assert equivalent_model(CURVE, 2.25, 0).value == pytest.approx(10**7.75)


def test_an_error_may_reach_beyond_a_neighbor_and_beyond_the_curve():
    found = equivalent_model(CURVE, 3.05, 0.1)
    assert (found.low, found.high) == (pytest.approx(10**6.85), pytest.approx(10**7.05))
    found = equivalent_model(CURVE, 2.05, 0.1)
    assert (found.low, found.high) == (pytest.approx(10**7.85), None)


@pytest.mark.parametrize("point", CURVE)
def test_a_reference_lands_on_itself_whatever_float32_makes_of_it(point):
    for loss in (point.loss, point.loss * (1 + 3e-7), point.loss * (1 - 3e-7)):
        found = equivalent_model(CURVE, loss, 0.0)
        assert (found.value, found.low, found.high) == (point.size,) * 3
        assert (found.below, found.above, found.outside) == (point.name, point.name, None)


@pytest.mark.parametrize(("loss", "outside"), [(4.1, WORSE), (1.9, BETTER)])
def test_outside_is_said_and_not_extrapolated(loss, outside):
    found = equivalent_model(CURVE, loss, 0.01)
    assert found == (None, None, None, None, None, outside, True, ())
    assert equivalent_model(CURVE, 4.05, 0.1).high == pytest.approx(10**6.05)


def test_of_a_curve_that_is_not_monotone_the_falling_part_counts():
    curve = [Point("a", 1, 4.0), Point("b", 10, 2.0), Point("c", 100, 3.0), Point("d", 1000, 1.0)]
    found = equivalent_model(curve, 2.5, None)
    assert found.value == pytest.approx(10**0.75) and (found.below, found.above) == ("a", "b")
    assert not found.monotone and found.low is None and found.left_out == ("c",)
    # Half of the way in loss from b to d; with c in the curve it was a quarter of the way from c to d.
    assert equivalent_model(curve, 1.5, None).value == pytest.approx(10**2)
    assert equivalent_model([Point("e", 5, 9.0), *curve], 5.0, 0.1).outside == WORSE_THAN_SMALLEST
    assert equivalent_model([Point("e", 5, 9.0), *curve], 9.5, 0.1).outside == WORSE


def test_a_curve_that_rises_is_no_curve():
    """Control models: the larger, the worse. A damaged model is not as good as more than the intact one."""
    curve = [Point("demo-xs", 263_000, 14.60), Point("demo-s", 265_000, 14.96), Point("demo", 1_100_000, 15.10)]
    found = equivalent_model(curve, 14.98, 0.05)
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.outside == NO_CURVE and found.left_out == ("demo-s", "demo")
    assert not found.monotone


@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_never_reversed_and_lower_losses_are_never_smaller_models(seed):
    rng = random.Random(seed)
    curve = [Point(str(i), rng.choice([1, 2, 5, 10, 10, 100, 1000]), round(rng.uniform(1, 4), 1)) for i in range(6)]
    placed = [equivalent_model(curve, loss / 20, rng.choice([0.0, 0.05, 1.0])) for loss in range(100, 0, -1)]
    values = [found.value for found in placed if found.value is not None]
    assert values == sorted(values)
    for found in placed:
        ends = [end for end in (found.low, found.value, found.high) if end is not None]
        assert ends == sorted(ends)
        assert (found.value is None) == (found.outside is not None)


def test_duplicates_and_ties():
    twice = [Point("a", 10, 3.0), Point("a again", 10, 3.0), Point("b", 100, 2.0), Point("as b", 1000, 2.0)]
    found = equivalent_model(twice, 2.5, 0.1)
    assert found.value == pytest.approx(10**1.5) and set(found.left_out) & {"a", "a again"}
    assert equivalent_model(twice, 2.0, 0.0).value == 100  # the smallest of those that are as good
    assert "as b" in found.left_out


def test_the_share_is_the_weight_of_the_upper_neighbor():
    found = bracket(CURVE, 3.8)
    assert found is not None and found.share == pytest.approx(0.2)
    assert (1 - found.share) * found.below.loss + found.share * found.above.loss == pytest.approx(3.8)
    assert bracket(CURVE, 5.0) is None


def test_references_of_one_size_and_a_single_one():
    curve = [Point("a", 10, 3.0), Point("b", 10, 2.0)]
    assert equivalent_model(curve, 2.5, 0.1).value == pytest.approx(10)
    assert not equivalent_model(curve, 2.5, 0.1).monotone
    assert equivalent_model(curve[:1], 3.0, 0.1).value == 10
    assert equivalent_model(curve[:1], 2.9, 0.0).outside == BETTER
    assert equivalent_model(curve[:1], 3.1, 0.0).outside == WORSE
