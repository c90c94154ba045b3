"""Reconstruction metrics against a float64 numpy computation written from the definitions."""

import numpy as np
import pytest
import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.reconstruction import ReconstructionSums
from sae_cli.metrics.report import existing

N, D, F = 200, 6, 10


def given(batch, norms):
    """What a pass sees, whatever dictionary has made it."""
    made = Encoded.__new__(Encoded)
    x, reconstruction, f = batch
    vars(made).update(x=x, target=x, reconstruction=reconstruction, f=f, decoder_norms=norms)
    return made


@pytest.fixture
def data():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(N, D, generator=g) + 3
    f = torch.relu(torch.randn(N, F, generator=g))
    return x, x + 0.3 * torch.randn(N, D, generator=g), f, torch.rand(F, generator=g) + 0.5


def results(x, reconstruction, f, norms, sizes=(N,), origin=None):
    sums = ReconstructionSums(torch.zeros(D) if origin is None else origin)
    parts = (tensor.split(list(sizes)) for tensor in (x, reconstruction, f))
    for batch in zip(*parts, strict=True):
        sums.add(given(batch, norms))
    return sums.results()


def test_against_numpy(data):
    x, r, f, norms = (tensor.double().numpy() for tensor in data)
    squared = ((x - r) ** 2).sum(axis=1)
    expected = {
        "l0": (f > 0).sum() / N,
        "l1": (f * norms).sum() / N,
        "mse": squared.sum() / N,
        "mse_per_dim": squared.mean() / D,
        "rmse_per_dim": np.sqrt(((x - r) ** 2).mean()),
        "fvu": squared.sum() / ((x - x.mean(axis=0)) ** 2).sum(),
        "cosine": np.mean([a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(x, r, strict=True)]),
        "norm_ratio": np.mean(np.linalg.norm(r, axis=1) / np.linalg.norm(x, axis=1)),
        "reconstruction_bias": (r**2).sum() / (x * r).sum(),
        "zero_norm_tokens": 0,
    }
    expected["explained_variance"] = 1 - expected["fvu"]
    assert results(*data) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("sizes", [(1,) * N, (150, 50), (7, 93, 100)])
def test_batches_of_any_size_give_the_same_numbers(data, sizes):
    assert results(*data, sizes=sizes) == pytest.approx(results(*data), rel=1e-9)


def test_merged_ranks_give_the_same_numbers(data):
    x, r, f, norms = data
    parts = []
    for rank in range(3):
        part = ReconstructionSums(torch.zeros(D))
        part.add(given((x[rank::3], r[rank::3], f[rank::3]), norms))
        parts.append(part)
    assert parts[0].merge(parts[1]).merge(parts[2]).results() == pytest.approx(results(*data), rel=1e-9)


def test_the_origin_is_only_for_precision(data):
    x, r, f, norms = data
    mean = x.mean(dim=0)
    assert results(*data, origin=mean) == pytest.approx(results(*data), rel=1e-9)
    far = torch.full((D,), 1e6)
    shifted = results(x + far, r + far, f, norms, origin=far)
    exact = ((x + far).double() - (x + far).double().mean(dim=0)).square().sum() / N
    assert existing(shifted, "mse") / existing(shifted, "fvu") == pytest.approx(exact.item(), rel=1e-9)


def test_identity_mean_and_offset(data):
    x, _, f, norms = data
    identity = results(x, x, f, norms)
    assert identity["fvu"] == 0 and identity["cosine"] == pytest.approx(1) and identity["norm_ratio"] == 1
    assert results(x, x.double().mean(dim=0).expand_as(x).float(), f, norms)["fvu"] == pytest.approx(1, abs=1e-6)
    assert existing(results(x, x + 5, f, norms), "fvu") > 10


def test_zero_norm_tokens_are_counted_apart(data):
    x, r, f, norms = data
    x, r = x.clone(), r.clone()
    x[0], r[1] = 0, 0
    found = results(x, r, f, norms)
    assert found["zero_norm_tokens"] == 2
    kept = results(x[2:], r[2:], f[2:], norms, sizes=(N - 2,))
    assert found["cosine"] == pytest.approx(kept["cosine"])
    assert found["norm_ratio"] == pytest.approx(existing(kept, "norm_ratio") * (N - 2) / (N - 1))


def test_what_does_not_exist_is_none(data):
    _, _, f, norms = data
    constant = torch.zeros(N, D)
    found = results(constant, constant, f, norms)
    assert found["fvu"] is None and found["cosine"] is None and found["reconstruction_bias"] is None
