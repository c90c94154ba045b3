"""The search of `benchmarks/quality.py` for the setting at which L0 is k."""

import math
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy.stats")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import quality
from quality import next_setting


@pytest.mark.parametrize("rises", [True, False])
@pytest.mark.parametrize("first", [0.01, 0.5, 40.0])
@pytest.mark.parametrize("power", [0.7, 2.5])
def test_a_monotone_curve_is_followed_to_its_place(rises, first, power):
    tried, value = {}, first
    while len(tried) < 10:
        assert value not in tried
        tried[value] = (value / 3) ** (power if rises else -power) * (1 + 0.3 * math.tanh(math.log(value / 3)))
        if abs(tried[value] - 1) <= 0.02:
            break
        value = next_setting(tried, rises)
    assert abs(tried[value] - 1) <= 0.02


def test_a_training_that_failed_does_not_stop_the_search():
    """A collapsed training at the lowest coefficient, and one that is stuck: what follows lies between, and is new."""
    tried = {0.12: 7.2 / 16, 0.054: 21.2 / 16}
    for found in (28.5 / 16, 24.8 / 16, 24.8 / 16, 18 / 16):
        value = next_setting(tried, rises=False)
        assert 0.054 < value < 0.12 and value not in tried
        tried[value] = found
    assert max(each for each, ratio in tried.items() if ratio > 1) < next_setting(tried, rises=False) < 0.12


def test_where_k_is_the_setting_fvu_is_read_at_k_all_the_same(monkeypatch):
    """Of trainings whose FVU is 1 / L0², and whose L0 is 5 % above their setting."""
    tried = []

    def train(order, batches):
        tried.append(order.sparsity)
        return order.sparsity * 1.05

    monkeypatch.setattr(quality, "measure", lambda l0, on: quality.Quality(l0**-2, l0, None))
    order, on = quality.Order("jump_relu", 8, 16.0, None, 0), quality.Material("", [], [], None, None, None)  # type: ignore[arg-type]
    found = quality.at_k(train, order, on, 16, hits=True, rises=True)
    assert tried == [16.0, 15.0]
    assert found.at_k.fvu == pytest.approx(16**-2, rel=1e-9)
    assert (found.sparsity, found.l0) == (16.0, pytest.approx(16.8))
