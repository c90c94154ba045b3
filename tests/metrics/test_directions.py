"""Null space, kurtosis and participation ratio against scipy and cases whose answer is known."""

import numpy as np
import pytest
import scipy.stats
import torch

from sae_cli.metrics.directions import NullSpace, kurtosis, participation_ratio

M, D = 60, 20


@pytest.fixture
def W_out():
    return torch.randn(M, D, generator=torch.Generator().manual_seed(0))


def test_directions_inside_the_range_score_nothing(W_out):
    rows = torch.randn(30, D) @ W_out.T
    assert NullSpace(W_out).share(rows).abs().max() < 1e-10


def test_directions_that_the_map_does_not_see_score_one(W_out):
    null = torch.from_numpy(scipy.linalg.null_space(W_out.T.numpy()))
    assert null.shape == (M, M - D)
    rows = (null @ torch.randn(M - D, 30)).T
    assert (rows @ W_out).abs().max() < 1e-3
    torch.testing.assert_close(NullSpace(W_out).share(rows), torch.ones(30))


def test_random_directions_score_the_floor(W_out):
    space = NullSpace(W_out)
    assert space.floor == pytest.approx(1 - D / M)
    share = space.share(torch.randn(5000, M, generator=torch.Generator().manual_seed(1)))
    assert float(share.mean()) == pytest.approx(space.floor, abs=4 * float(share.std()) / 5000**0.5)


def test_a_map_that_lost_rank_sees_less(W_out):
    W_out[:, -5:] = W_out[:, :5] @ torch.randn(5, 5)
    assert NullSpace(W_out).floor == pytest.approx(1 - (D - 5) / M)


def test_the_projector_is_one(W_out):
    P = NullSpace(W_out).projector()
    torch.testing.assert_close(P @ P, P)
    assert (P @ W_out.double()).abs().max() < 1e-10


def test_kurtosis_is_scipys():
    rows = torch.randn(10, 200, generator=torch.Generator().manual_seed(0)) ** 3
    np.testing.assert_allclose(kurtosis(rows), scipy.stats.kurtosis(rows.numpy(), axis=1, fisher=False), rtol=1e-5)


def test_participation_ratio_counts_entries():
    rows = torch.zeros(3, 10)
    rows[0, 4] = -2
    rows[1, :5] = 3
    rows[2] = 1
    torch.testing.assert_close(participation_ratio(rows), torch.tensor([1.0, 5.0, 10.0]))
