"""Logit weights against numpy and scipy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from sae_cli.metrics import logit_weights as module
from sae_cli.metrics.logit_weights import logit_weights

F, D, V = 13, 6, 50


@pytest.fixture
def rows():
    return torch.randn(F, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def W():
    return torch.randn(V, D, generator=torch.Generator().manual_seed(1)) + 2.0


@pytest.fixture
def expected(rows, W):
    weights = rows.double().numpy() @ W.double().numpy().T
    return weights - weights.mean(axis=1, keepdims=True)


def test_shape_of_the_distribution(rows, W, expected):
    found = logit_weights(rows, W)
    np.testing.assert_allclose(found.kurtosis, scipy.stats.kurtosis(expected, axis=1, fisher=False), rtol=1e-4)
    np.testing.assert_allclose(found.skew, scipy.stats.skew(expected, axis=1), rtol=1e-3, atol=1e-5)


def test_both_ends(rows, W, expected):
    found = logit_weights(rows, W, shown=3)
    order = expected.argsort(axis=1)
    assert (found.bottom_tokens.numpy() == order[:, :3]).all()
    assert (found.top_tokens.numpy() == order[:, :-4:-1]).all()
    np.testing.assert_allclose(found.top_weights, np.sort(expected, axis=1)[:, :-4:-1], rtol=1e-4)
    np.testing.assert_allclose(found.bottom_weights, np.sort(expected, axis=1)[:, :3], rtol=1e-4)


def test_a_constant_over_the_vocabulary_does_not_matter(rows, W):
    moved = logit_weights(rows, W + torch.ones(V, 1) @ torch.randn(1, D))
    torch.testing.assert_close(moved.top_weights, logit_weights(rows, W).top_weights, rtol=1e-3, atol=1e-4)


def test_in_parts_as_at_once(rows, W, monkeypatch):
    whole = logit_weights(rows, W).tensors()
    monkeypatch.setattr(module, "_WEIGHTS_AT_ONCE", 2 * V)
    for name, tensor in logit_weights(rows, W).tensors().items():
        torch.testing.assert_close(tensor, whole[name])


def test_a_vocabulary_smaller_than_what_is_shown(rows):
    assert logit_weights(rows, torch.randn(4, D)).top_tokens.shape == (F, 4)
