"""Rare features against pairwise cosines, power laws made by hand, and counts that are zero."""

import numpy as np
import pytest
import torch

from sae_cli.metrics.rare import (
    DensityHistory,
    common_direction,
    density_slope,
    encoder_alignment,
    exempt_and_resampled,
    pooled_density,
    rare_in_part,
)
from tests.known import present


@pytest.mark.parametrize("shared", [0.0, 2.0])
def test_alignment_is_the_mean_over_pairs(shared):
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(30, 8, generator=g) * torch.rand(30, 1, generator=g) * 9 + shared * torch.randn(8, generator=g)
    x = rows.double().numpy()
    cosines = [
        x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i in range(30) for j in range(30) if i != j
    ]
    assert encoder_alignment(rows) == pytest.approx(np.mean(cosines), rel=1e-9)


def test_alignment_of_one_direction_and_of_less_than_a_pair():
    assert encoder_alignment(torch.tensor([[2.0, 0], [0.1, 0], [5, 0]])) == pytest.approx(1)
    assert encoder_alignment(torch.tensor([[1.0, 0], [-3, 0]])) == pytest.approx(-1)
    assert encoder_alignment(torch.ones(1, 3)) is None


def test_the_common_direction_weighs_rows_alike():
    found = common_direction(torch.tensor([[100.0, 0, 0], [0, 0.1, 0]]))
    torch.testing.assert_close(found, torch.tensor([0.5**0.5, 0.5**0.5, 0]))


def windows(ends, density_at, features=1):
    """Counts of features whose density is a function of the tokens seen, evaluated in the middle of each window."""
    ends = torch.tensor([0, *ends])
    middle = (ends[1:] + ends[:-1]) / 2
    count = (density_at(middle.double()) * ends.diff()).round().long()[:, None].repeat(1, features)
    return count, ends.diff(), torch.arange(1, len(ends))


def test_the_slope_of_a_power_law_is_its_exponent():
    ends = (10 ** torch.linspace(5, 6, 20)).long().tolist()
    count, tokens, step = windows(ends, lambda seen: 30 * seen**-0.6, features=3)
    chosen = torch.tensor([True, False, True])
    count[:, 1] = tokens  # not chosen
    found = density_slope(count, tokens, step, chosen)
    assert found.slope == pytest.approx(-0.6, abs=1e-3)
    late = [number for number, end in enumerate(ends) if 2 * (end - int(tokens[number])) >= ends[-1]]
    assert found.step.tolist() == [number + 1 for number in late] and 4 < len(late) < 10
    density = count[late, 0].numpy() / tokens[late].numpy()
    expected = np.polyfit(np.log10(found.tokens_seen.numpy()), np.log10(density), 1)
    assert found.slope == pytest.approx(expected[0], rel=1e-9)


def test_a_constant_density_has_no_slope_and_counts_are_pooled_before_the_logarithm():
    """One feature that fires in every other window and one in the others: their pool is constant."""
    tokens, step = torch.full((8,), 1000), torch.arange(1, 9)
    count = torch.zeros(8, 2, dtype=torch.int64)
    count[::2, 0] = count[1::2, 1] = 10
    found = density_slope(count, tokens, step, torch.tensor([True, True]))
    assert found.density.tolist() == pytest.approx([0.005] * 4) and found.slope == pytest.approx(0, abs=1e-12)


def test_windows_without_a_count_are_pooled_with_their_neighbors():
    count = torch.tensor([0, 0, 6, 1, 0, 0])[:, None]
    tokens, step = torch.tensor([10, 20, 30, 40, 50, 60]), torch.arange(1, 7)
    found = pooled_density(count, tokens, step, torch.tensor([True]))
    assert found.density.tolist() == pytest.approx([6 / 60, 1 / 150])
    assert found.tokens_seen.tolist() == [30, 135] and found.step.tolist() == [3, 6]
    log = np.log10
    assert found.slope == pytest.approx((log(1 / 150) - log(0.1)) / (log(135) - log(30)))


def test_what_never_fires_has_no_points():
    count, tokens = torch.zeros(4, 2, dtype=torch.int64), torch.full((4,), 5)
    for chosen in ([True, True], [False, False]):
        found = density_slope(count, tokens, torch.arange(4), torch.tensor(chosen))
        assert len(found.density) == 0 and found.slope is None


def test_rare_in_a_part_of_training():
    tokens = torch.tensor([100, 100, 200, 600])
    count = torch.tensor([[50, 0, 9], [0, 0, 9], [1, 0, 9], [300, 7, 9]])
    assert rare_in_part(count, tokens, (0.1, 0.4), below=0.01).tolist() == [True, True, False]
    assert rare_in_part(count, tokens, (0, 0.4), below=0.01).tolist() == [False, True, False]
    assert not rare_in_part(count, tokens, (0.5, 0.9), below=0.01).any()


def test_exempt_and_resampled_side_by_side():
    """Four rare features, of which two are exempt; one of the others is resampled, and fires afterwards."""
    tokens = torch.tensor([100, 100, 400, 400])
    count = torch.tensor([[9, 90, 90, 90, 90], [90, 0, 0, 0, 0], [90, 0, 4, 0, 40], [90, 0, 2, 0, 40]])
    resampled = torch.tensor([[False, False, False, False, True]])
    exempt = torch.tensor([True, True, True, False, False])
    history = DensityHistory(count, tokens, torch.arange(1, 5), exempt, torch.tensor([2]), resampled)
    found = exempt_and_resampled(history, part=(0.1, 0.2), below=0.01)
    assert {name: each.features for name, each in found.items()} == {"exempt": 2, "not_exempt": 2, "resampled": 1}
    assert found["exempt"].firing.tolist() == [2, 0, 1, 1]
    assert found["exempt"].whole.density.tolist()[-2:] == pytest.approx([4 / 1000, 2 / 800])
    assert present(found["exempt"].whole.slope) < 0
    assert found["exempt"].late.density.tolist() == pytest.approx([2 / 800])
    assert found["resampled"].late.density.tolist() == pytest.approx([0.1])
    assert found["not_exempt"].whole.density.tolist() == pytest.approx([0.9, 40 / 500 / 2, 0.05])
