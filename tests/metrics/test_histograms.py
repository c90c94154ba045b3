"""Histograms of activations and of logit weights, against numpy's of the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_cli.kernels.codes import Codes
from sae_cli.metrics import histograms
from sae_cli.metrics.contexts import CodedRows, ContextCollector, ContextShape
from sae_cli.metrics.histograms import BARS, LOGIT_BARS, logit_histogram

F, T, ROWS = 6, 20, 40
SHAPE = ContextShape(top=2, bands=4, per_band=1, window=4)


@pytest.fixture(scope="module")
def f():
    """Activations of very different sizes; one feature that never fires, one that fires once [ROWS · (T - 1), F]."""
    draw = torch.Generator().manual_seed(0)
    found = torch.randn(ROWS * (T - 1), F, generator=draw).exp() * torch.logspace(-3, 4, F)
    found *= torch.rand(found.shape, generator=draw) < 0.6
    found[:, 3] = 0
    found[:, 4] = 0
    found[17, 4] = 5.5
    return found


def collected(f, shape=SHAPE):
    collector = ContextCollector(torch.arange(F), F, T, 1, shape, seed=0)
    tokens = torch.zeros(ROWS, T, dtype=torch.int64)
    collector.add(CodedRows(Codes.of_dense(f), tokens, tokens))
    return collector.histograms()


def test_bars_hold_every_activation(f):
    found = collected(f)
    counts, step = found["activation_count"].numpy(), found["activation_step"].numpy()
    assert counts.shape == (F, BARS)
    for feature in range(F):
        values = f[:, feature][f[:, feature] > 0].numpy().astype(np.float64)
        if not len(values):
            assert step[feature] == 0 and not counts[feature].any()
            continue
        expected, _ = np.histogram(values, bins=np.arange(BARS + 1) * float(step[feature]))
        np.testing.assert_array_equal(counts[feature], expected)
        assert counts[feature].sum() == len(values)
        assert BARS // 2 <= values.max() / step[feature] < BARS


def test_borders_of_bands_are_quantiles(f):
    edges = collected(f)["band_edge"].numpy()
    assert edges.shape == (F, SHAPE.bands + 1) and not edges[3].any()
    for feature in (0, 1, 2, 4, 5):
        values = np.sort(f[:, feature][f[:, feature] > 0].numpy())
        for band in range(SHAPE.bands):
            at = values[band * len(values) // SHAPE.bands]
            assert at * (1 - 1 / 32) <= edges[feature, band] <= at
        assert values[-1] < edges[feature, -1] <= values[-1] * (1 + 1 / 32)


def test_in_parts_as_at_once(f, monkeypatch):
    whole = collected(f)
    monkeypatch.setattr(histograms, "_FEATURES_AT_ONCE", 2)
    assert all(torch.equal(each, whole[name]) for name, each in collected(f).items())


def test_without_bands_there_is_none(f):
    assert collected(f, ContextShape(bands=0)) == {}


def test_logit_weights_are_all_counted(monkeypatch):
    draw = torch.Generator().manual_seed(1)
    rows, W = torch.randn(F, 8, generator=draw), torch.randn(300, 8, generator=draw)
    rows[2] = 0
    found = logit_histogram(rows, W)
    weights = (rows @ W.T).numpy()
    weights -= weights.mean(axis=1, keepdims=True)
    for feature in (0, 1, 3, 4, 5):
        own = weights[feature]
        assert found["logit_least"][feature] == pytest.approx(own.min(), rel=1e-4)
        assert found["logit_most"][feature] == pytest.approx(own.max(), rel=1e-4)
        expected, _ = np.histogram(own, LOGIT_BARS)
        assert np.abs(found["logit_count"][feature].numpy() - expected).sum() <= 4  # at the borders, by rounding
    assert (found["logit_count"].sum(dim=1) == 300).all()
    monkeypatch.setattr(histograms, "_WEIGHTS_AT_ONCE", 600)
    in_parts = logit_histogram(rows, W)
    torch.testing.assert_close(in_parts["logit_most"], found["logit_most"])
    assert (in_parts["logit_count"] - found["logit_count"]).abs().sum() <= 4
