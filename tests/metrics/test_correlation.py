"""Correlations of features against numpy's."""

import numpy as np
import torch

from sae_cli.metrics.correlation import CorrelationSums, FiredTogether

N, A, B = 400, 7, 5


def test_against_numpy():
    g = torch.Generator().manual_seed(0)
    a = torch.relu(torch.randn(N, A, generator=g) - 0.5) + 3  # far from 0: the mean matters
    b = torch.relu(torch.randn(N, B, generator=g) - 1)
    b[:, 0] = 4 * a[:, 3]
    sums = CorrelationSums(A, B)
    for part in zip(a.split(90), b.split(90), strict=True):
        sums.add(FiredTogether(*part))
    expected = np.corrcoef(a.double().T.numpy(), b.double().T.numpy())[:A, A:]
    np.testing.assert_allclose(sums.results().numpy(), expected, atol=2e-5)
    assert sums.n == N and float(sums.results()[3, 0]) > 0.9999


def test_a_feature_that_never_changes_correlates_with_nothing():
    sums = CorrelationSums(2, 1)
    sums.add(FiredTogether(torch.tensor([[0.0, 7.0], [0.0, 7.0]]), torch.tensor([[1.0], [2.0]])))
    assert sums.results().tolist() == [[0.0], [0.0]]
