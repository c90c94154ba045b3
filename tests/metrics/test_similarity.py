"""Similarities of sets of directions: known answers, scipy, and the floors' analytic values."""

import numpy as np
import pytest
import scipy.optimize
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sae_cli.metrics import similarity
from sae_cli.metrics.similarity import (
    max_cosines,
    mmcs_figures,
    nearest_both_ways,
    nearest_others,
    one_to_one,
    random_floor,
    subspace_floor,
)


def rows(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def generator():
    return torch.Generator().manual_seed(5)


def test_a_permutation_is_the_same_dictionary():
    a = rows(300, 40)
    order = torch.randperm(300, generator=generator())
    b = a[order] * torch.rand(300, 1, generator=generator()).add(0.1)
    forward, back = nearest_both_ways(a, b)
    assert mmcs_figures(forward.cosine)["mmcs"] == pytest.approx(1, abs=1e-6)
    assert torch.equal(order[forward.index], torch.arange(300)) and torch.equal(back.index, order)
    assert float(one_to_one(a, b).mean()) == pytest.approx(1, abs=1e-6)


def test_order_and_scale_do_not_matter():
    a, b = rows(200, 30), rows(250, 30, seed=1)
    changed = b[torch.randperm(250, generator=generator())] * torch.rand(250, 1, generator=generator()).add(0.1)
    for first, second in zip(nearest_both_ways(a, b), nearest_both_ways(a, changed), strict=True):
        torch.testing.assert_close(first.cosine.sort().values, second.cosine.sort().values)
    assert float(one_to_one(a, b).mean()) == pytest.approx(float(one_to_one(a, changed).mean()), abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 64, 1024])
def test_against_numpy(monkeypatch, chunk):
    monkeypatch.setattr(similarity, "_CHUNK", chunk)
    a, b = rows(150, 20), rows(130, 20, seed=1)
    x, y = (each.double().numpy() / np.linalg.norm(each.double().numpy(), axis=1, keepdims=True) for each in (a, b))
    cosines = x @ y.T
    forward, back = nearest_both_ways(a, b)
    np.testing.assert_allclose(forward.cosine, cosines.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(back.cosine, cosines.max(axis=0), atol=1e-6)
    assert (forward.index.numpy() == cosines.argmax(axis=1)).all() and (
        back.index.numpy() == cosines.argmax(axis=0)
    ).all()
    np.testing.assert_allclose(max_cosines(a, b), forward.cosine, atol=1e-6)
    assigned = cosines[scipy.optimize.linear_sum_assignment(-cosines)]
    assert float(one_to_one(a, b).mean()) == pytest.approx(assigned.mean(), abs=1e-6)
    figures = mmcs_figures(forward.cosine)
    assert figures["q50"] == pytest.approx(np.median(cosines.max(axis=1)), abs=1e-6)
    assert figures["share_0.9"] == (cosines.max(axis=1) > 0.9).mean()


def expected_maximum(n, d):
    """E[max of n cosines with random directions in d dimensions], by the distribution of one cosine."""
    t = np.linspace(-1, 1, 200_001)
    density = (1 - t**2) ** ((d - 3) / 2)
    cdf = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    cdf /= cdf[-1]
    return 1 - np.trapezoid(cdf**n, t)


@pytest.mark.parametrize(("n", "d"), [(1024, 64), (512, 208)])
def test_the_random_floor_is_the_analytic_one(n, d):
    floor, spread = random_floor(rows(400, d), n, generator())
    assert floor == pytest.approx(expected_maximum(n, d), abs=0.003)
    assert 0 < spread < 0.01
    assert expected_maximum(1024, 64) == pytest.approx(0.4, abs=0.01)  # as metrics are defined
    assert expected_maximum(8192, 512) == pytest.approx(0.17, abs=0.01)


def test_the_subspace_floor_sees_a_shared_subspace():
    """Directions of one small subspace are alike without sharing a single feature."""
    basis = rows(8, 100, seed=3)
    a, b = rows(300, 8, seed=1) @ basis, rows(300, 8, seed=2) @ basis
    found = mmcs_figures(nearest_both_ways(a, b)[0].cosine)["mmcs"]
    isotropic, _ = random_floor(a, 300, generator())
    shared, _ = subspace_floor(a, b, generator())
    assert isotropic < 0.4 < 0.75 < shared
    assert shared == pytest.approx(found, abs=0.05)


@pytest.mark.parametrize("at_once", [1, 2**24])
def test_the_nearest_others_against_every_cosine(at_once, monkeypatch):
    monkeypatch.setattr("sae_cli.metrics.similarity._COSINES_AT_ONCE", at_once)
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    index, cosine = nearest_others(rows, torch.tensor([2, 7]), 20)
    assert index.shape == (2, 8)
    unit = rows.double().numpy() / np.linalg.norm(rows.double().numpy(), axis=1, keepdims=True)
    for place, feature in enumerate((2, 7)):
        others = [other for other in np.argsort(-(unit @ unit[feature]), kind="stable") if other != feature]
        assert index[place].tolist() == others
        np.testing.assert_allclose(cosine[place], (unit @ unit[feature])[others], atol=1e-6)


class Products(TorchDispatchMode):
    """Multiplications of matrix products, and the largest matrix that came of one."""

    def __init__(self):
        super().__init__()
        self.made, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket.__name__ == "mm":
            self.made += args[0].numel() * args[1].shape[1]
            self.largest = max(self.largest, result.numel())
        return result


def test_blocks_of_columns_change_nothing_and_bound_what_is_held(monkeypatch):
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(70, 6, generator=g), torch.randn(90, 6, generator=g)
    b[70] = b[3]  # of equal ones the first
    whole = (*nearest_both_ways(a, b), max_cosines(a, b))
    monkeypatch.setattr(similarity, "_CHUNK", 16)
    monkeypatch.setattr(similarity, "_COLUMNS", 32)
    with Products() as products:
        parts = (*nearest_both_ways(a, b), max_cosines(a, b))
    assert products.largest == 16 * 32
    for one, other in zip(whole[:2], parts[:2], strict=True):
        torch.testing.assert_close(one.cosine, other.cosine)
        assert torch.equal(one.index, other.index)
    torch.testing.assert_close(whole[2], parts[2])


def test_floors_of_many_rows_are_of_a_part_of_them(monkeypatch):
    """What they cost grows with the other side alone, and they are what they are of all rows but for a draw."""
    rows = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    whole = random_floor(rows, 500, torch.Generator().manual_seed(1))
    monkeypatch.setattr(similarity, "_IN_FLOORS", 1000)
    with Products() as products:
        part = random_floor(rows, 500, torch.Generator().manual_seed(1))
    assert products.made == 3 * 1000 * 500 * 8
    assert part[0] == pytest.approx(whole[0], abs=0.01)
