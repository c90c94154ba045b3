"""Means by token against float64 numpy, with back-off, and no more held than is asked about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_cli.evaluation.token_means import TokenMeans

V, D, T = 9, 5, 7


@pytest.fixture
def text():
    g = torch.Generator().manual_seed(0)
    training = torch.randint(V - 1, (30, T), generator=g)  # the last token is never seen
    y = torch.randn(30, T - 1, D, generator=g) + training[:, 1:, None]
    asked = torch.randint(V, (12, T), generator=g)
    return training, y, asked


def by_hand(training, y, row, position, depth):
    """The mean in float64 over the positions of the training text with the same last tokens."""
    y = y.double().numpy()
    for n in range(depth, 0, -1):
        last = row[position - n + 1 : position + 1].tolist()
        found = [
            y[i, t - 1]
            for i in range(len(training))
            for t in range(1, T)
            if training[i, t - n + 1 : t + 1].tolist() == last
        ]
        if found:
            return np.mean(found, axis=0)
    return y.reshape(-1, D).mean(axis=0)


@pytest.mark.parametrize("depth", [1, 2])
def test_against_numpy(text, depth):
    training, y, asked = text
    blocks = list(zip(training.split(7), y.split(7), strict=True))
    means = TokenMeans(2, asked.split(5), blocks, torch.zeros(D)).of_depth(depth)
    found = means.of(asked).numpy()
    kinds = set()
    for i, row in enumerate(asked):
        for t in range(1, T):
            np.testing.assert_allclose(found[i, t], by_hand(training, y, row, t, depth), rtol=1e-5, atol=1e-6)
            kinds.add(bool(row[t] == V - 1))
    assert kinds == {True, False}


def test_what_stands_in_is_one_feature(text):
    training, y, asked = text
    means = TokenMeans(1, [asked], [(training, y)], torch.zeros(D))
    counted = torch.arange(T).expand(len(asked), T) > 0
    seen = means.encoded(asked, torch.zeros(len(asked), T, D), counted)
    assert seen.f.shape == (len(asked) * (T - 1), 1)
    assert float((seen.f > 0).sum(dim=1).float().mean()) == 1
    torch.testing.assert_close(seen.reconstruction.view(len(asked), T - 1, D), means.of(asked)[:, 1:])
