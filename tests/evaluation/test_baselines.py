"""Bases as dictionaries: exact with all coefficients, and as good with k of them as numpy says."""

import math

import numpy as np
import pytest
import torch

from sae_cli.evaluation.baselines import Bases

N, D = 3000, 12


@pytest.fixture
def x():
    """Independent Laplace sources, mixed, away from the origin."""
    g = torch.Generator().manual_seed(0)
    sources = torch.distributions.Laplace(0.0, 1.0).icdf(torch.rand(N, D, generator=g) * 0.998 + 0.001)
    return sources * torch.arange(1, D + 1) @ torch.randn(D, D, generator=g) + 2


@pytest.mark.parametrize("name", ["neurons", "random", "pca", "ica"])
def test_with_every_coefficient_it_is_exact(x, name):
    basis = Bases(x, x.mean(dim=0), D).at_l0(name)
    torch.testing.assert_close(basis(x), x, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(basis.decoder_norms(), torch.ones(2 * D))


@pytest.mark.parametrize("name", ["neurons", "pca"])
def test_against_numpy(x, name):
    k, mean = 3.4, x.mean(dim=0)
    basis = Bases(x, mean, k).at_l0(name)
    centered = (x - mean).double().numpy()
    rows = np.eye(D) if name == "neurons" else np.linalg.svd(centered, full_matrices=False)[2]
    coefficients = centered @ rows.T
    smallest = np.sort(np.abs(coefficients), axis=1)[:, -math.ceil(k), None]
    expected = np.where(np.abs(coefficients) >= smallest, coefficients, 0) @ rows + mean.numpy()
    np.testing.assert_allclose(basis(x).numpy(), expected, atol=1e-3)
    assert float((basis.encode(x) > 0).sum(dim=1).float().mean()) == 4


def test_ica_finds_the_sources(x):
    basis = Bases(x, x.mean(dim=0), D).at_l0("ica")
    kurtosis = (lambda v: (v - v.mean(dim=0)).pow(4).mean(dim=0) / v.var(dim=0).square())(
        basis.encode(x)[:, :D] - basis.encode(x)[:, D:]
    )
    assert kurtosis.median() > 4.5  # Laplace: 6, mixtures of them: towards 3


def test_random_directions_are_orthonormal_and_seeded(x):
    first, again, other = (Bases(x, x[0], 2, seed).at_l0("random").W_dec for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.testing.assert_close(first[:D] @ first[:D].T, torch.eye(D), atol=1e-5, rtol=0)
