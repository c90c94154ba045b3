"""Which features go, and what becomes of the others, against numpy and by hand."""

import numpy as np
import pytest
import torch

from sae_cli.dictionaries.files import ARCHITECTURES
from sae_cli.edits.prune import Limits, control_features, kept_features, recentered
from tests.known import present

FREQUENCY = torch.tensor([0.5, 0.0, 0.2, 0.2, 0.01, 0.3], dtype=torch.float64)
F, D = 6, 4


def kept(**limits):
    return kept_features(FREQUENCY, Limits(**limits)).tolist()


def dictionary(architecture, seed=0):
    g = torch.Generator().manual_seed(seed)
    kind = ARCHITECTURES[architecture]
    tensors = {name: torch.randn(shape, generator=g) for name, shape in kind.shapes(F, D, D).items()}
    tensors |= {"k": torch.tensor([3.0]), "group_sizes": torch.tensor([2.0, 1.0, 3.0])}
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].abs()
    return kind({name: tensors[name] for name in kind.tensor_names})


def test_max_freq_kills_what_is_above():
    assert kept(max_freq=0.2) == [1, 2, 3, 4]


def test_min_freq_kills_what_is_below():
    assert kept(min_freq=0.01) == [0, 2, 3, 4, 5]
    assert kept(min_freq=0.01, max_freq=0.3) == [2, 3, 4, 5]


def test_top_n_takes_the_lower_number_first():
    assert kept(top_n=3) == [1, 3, 4]


def test_a_band_takes_places_in_the_order_of_frequency_of_what_fires():
    """In order 4, 2, 3, 5, 0; feature 1 never fires."""
    assert kept(band=(0.8, 1.0)) == [1, 2, 3, 4, 5]
    assert kept(band=(0.2, 0.6)) == [0, 1, 4, 5]
    assert kept(band=(0.0, 1.0)) == [1]
    frequency = torch.rand(1003, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).round(decimals=2)
    parts = [set(range(1003)) - set(kept_features(frequency, Limits(band=(i / 10, (i + 1) / 10))).tolist())
             for i in range(10)]  # fmt: skip
    assert sum(map(len, parts)) == len(set().union(*parts)) == int((frequency > 0).sum())
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_control_fires_as_often_in_total_and_has_none_of_the_pruned():
    frequency = torch.rand(500, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) ** 6
    left = kept_features(frequency, Limits(top_n=5))
    pruned = set(range(500)) - set(left.tolist())
    total = float(frequency[list(pruned)].sum())
    drawn = []
    for seed in range(3):
        control = control_features(frequency, left, seed)
        assert control is not None
        others = set(range(500)) - set(control.tolist())
        assert not others & pruned
        assert float(frequency[list(others)].sum()) == pytest.approx(total, abs=float(frequency.min()) + 1e-3)
        assert float(frequency[list(others)].sum()) <= total * (1 + 1e-9)
        assert torch.equal(control, present(control_features(frequency, left, seed)))
        drawn.append(others)
    assert drawn[0] != drawn[1] != drawn[2]
    assert control_features(frequency, kept_features(frequency, Limits(top_n=400)), 0) is None


@pytest.mark.parametrize(
    ("target", "expected"), [(2, [0, 1, 2, 3, 4, 5]), (0.71, [1, 2, 3, 4, 5]), (0.41, [1, 2, 3, 4])]
)
def test_target_l0_kills_as_few_as_it_can(target, expected):
    assert kept(target_l0=target) == expected


def test_target_l0_keeps_equal_frequencies_together():
    assert kept(target_l0=0.3) == [1, 4]


def test_target_l0_by_brute_force():
    frequency = torch.rand(200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 4
    found = kept_features(frequency, Limits(target_l0=5.0))
    assert frequency[found].sum() <= 5
    least_killed = min(frequency[i] for i in range(200) if i not in set(found.tolist()))
    assert frequency[found].sum() + least_killed > 5
    assert frequency[found].max() < least_killed


@pytest.mark.parametrize("architecture", ["relu", "jump_relu", "gated", "batch_topk", "matryoshka"])
def test_the_other_features_are_as_they_were(architecture):
    whole, index = dictionary(architecture), torch.tensor([0, 2, 5])
    part, x = whole.keep(index), torch.randn(50, D)
    torch.testing.assert_close(part.encode(x), whole.encode(x)[:, index])
    expected = whole.encode(x)[:, index].numpy() @ whole.W_dec.numpy()[index] + whole.b_dec.numpy()
    np.testing.assert_allclose(part(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    for name in part.per_feature:
        assert torch.equal(getattr(part, name), getattr(whole, name)[index])


def test_a_topk_dictionary_fills_its_support_again():
    whole, index = dictionary("topk"), torch.tensor([0, 1, 2, 4])
    f = whole.keep(index).encode(torch.randn(50, D))
    assert f.shape == (50, 4) and (f > 0).sum(dim=1).max() == 3
    assert int(whole.keep(index[:2]).get_buffer("k")) == 2


def test_groups_shrink():
    assert dictionary("matryoshka").keep(torch.tensor([1, 3, 5])).get_buffer("group_sizes").tolist() == [1, 0, 2]


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_recentring_leaves_codes_and_lowers_the_error(architecture):
    whole = dictionary(architecture)
    x = torch.randn(500, D) + 3
    mean_error = (x - whole(x)).double().mean(dim=0)
    moved = recentered(whole, mean_error)
    assert torch.equal(moved.encode(x), whole.encode(x))
    before, after = ((x - each(x)).double().square().sum(dim=1).mean() for each in (whole, moved))
    torch.testing.assert_close(before - after, mean_error.square().sum(), rtol=1e-4, atol=1e-6)
    again = recentered(moved, torch.ones(D))
    assert torch.equal(again.encode(x), whole.encode(x))
    scaled = moved.in_units_divided_by(4.0, 4.0)
    torch.testing.assert_close(scaled(x / 4), moved(x) / 4)
