"""Places on a curve of references, computed by hand."""

import pytest

from sae_cli.metrics.equivalent_model import BETTER, WORSE, Point, bracket, equivalent_model

CURVE = [Point("l", 1e8, 2.0), Point("s", 1e6, 4.0), Point("m", 1e7, 3.0)]


def test_halfway_in_loss_is_halfway_in_log_size():
    found = equivalent_model(CURVE, 3.5, 0.1)
    assert found.value == pytest.approx(10**6.5)
    assert (found.low, found.high) == (pytest.approx(10**6.4), pytest.approx(10**6.6))
    assert (found.below, found.above, found.outside, found.monotone) == ("s", "m", None, True)
    assert equivalent_model(CURVE, 2.25, 0).value == pytest.approx(10**7.75)


def test_an_error_may_reach_beyond_a_neighbour_and_beyond_the_curve():
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
    assert found == (None, None, None, None, None, outside, True)
    assert equivalent_model(CURVE, 4.05, 0.1).high == pytest.approx(10**6.05)


def test_a_curve_that_is_not_monotone_uses_the_smallest_neighbours_that_bracket():
    curve = [Point("a", 1, 4.0), Point("b", 10, 2.0), Point("c", 100, 3.0), Point("d", 1000, 1.0)]
    found = equivalent_model(curve, 2.5, None)
    assert found.value == pytest.approx(10**0.75) and (found.below, found.above) == ("a", "b")
    assert not found.monotone and found.low is None
    assert equivalent_model(curve, 1.5, None).value == pytest.approx(10**2.75)


def test_the_share_is_the_weight_of_the_upper_neighbour():
    found = bracket(CURVE, 3.8)
    assert found is not None and found.share == pytest.approx(0.2)
    assert (1 - found.share) * found.below.loss + found.share * found.above.loss == pytest.approx(3.8)
    assert bracket(CURVE, 5.0) is None


def test_references_of_one_size_and_a_single_one():
    curve = [Point("a", 10, 3.0), Point("b", 10, 2.0)]
    assert equivalent_model(curve, 2.5, 0.1).value == pytest.approx(10)
    assert equivalent_model(curve[:1], 3.0, 0.1).value == 10
    assert equivalent_model(curve[:1], 2.9, 0.0).outside == BETTER
