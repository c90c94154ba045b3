"""Fitting the decoder to frozen codes: gradients, and unchanged codes."""

import pytest
import torch

from sae_cli.dictionaries.decoder_fit import DecoderFit
from sae_cli.dictionaries.objective import StepContext
from sae_cli.dictionaries.relu import ReluDictionary, ReluObjective
from sae_cli.kernels.reference import ReferenceKernel

N, D, F = 11, 5, 9
CONTEXT = StepContext(batch_size=N, sparsity=0.0, dead=torch.zeros(F, dtype=torch.bool))


@pytest.fixture
def x():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def trained(unit_rows=True):
    g = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(2, F, D, generator=g, dtype=torch.float64)
    return ReluObjective(W_enc, W_dec, torch.randn(D, generator=g, dtype=torch.float64), unit_rows, l1=1.0)


def codes(of, x):
    return torch.relu((x - of["b_dec"]) @ of["W_enc"].T + of["b_enc"])


def test_gradients_against_autograd(x):
    before = trained()
    fit = DecoderFit(before)
    W_dec, b_dec = (tensor.clone().requires_grad_(True) for tensor in (before.W_dec, before.b_dec))
    loss = (x - codes(before.parameters, x) @ W_dec - b_dec).square().sum() / N
    expected = torch.autograd.grad(loss, (W_dec, b_dec))
    result = fit.accumulate(x, x, ReferenceKernel(), CONTEXT)
    fit.finish_gradients(CONTEXT)
    torch.testing.assert_close((fit.W_dec.grad, fit.b_dec.grad), expected)
    assert list(fit.parameters) == ["W_dec", "b_dec"]
    assert result.squared_error == pytest.approx(N * loss.item())
    assert result.l0 == int((codes(before.parameters, x) > 0).sum())


@pytest.mark.parametrize("unit_rows", [True, False])
def test_the_dictionary_has_the_same_support_and_the_new_decoder(x, unit_rows):
    before = trained(unit_rows)
    fit = DecoderFit(before)
    g = torch.Generator().manual_seed(2)
    fit.W_dec.copy_(torch.randn(F, D, generator=g, dtype=torch.float64))
    fit.b_dec.copy_(torch.randn(D, generator=g, dtype=torch.float64))
    result, f = fit.tensors(), codes(before.parameters, x)
    assert torch.equal(codes(result, x) > 0, f > 0)
    torch.testing.assert_close(codes(result, x) @ result["W_dec"] + result["b_dec"], f @ fit.W_dec + fit.b_dec)
    if unit_rows:
        torch.testing.assert_close(result["W_dec"].norm(dim=1), torch.ones(F, dtype=torch.float64))
    else:
        assert torch.equal(result["W_dec"], fit.W_dec)


def test_it_is_a_dictionary(x):
    before = trained()
    tensors = {name: tensor.float() for name, tensor in DecoderFit(before).tensors().items()}
    dictionary = ReluDictionary(tensors | {"activation_mean": torch.zeros(D)})
    expected = codes(before.parameters, x) @ before.W_dec + before.b_dec
    torch.testing.assert_close(dictionary(x.float()), expected.float(), rtol=1e-4, atol=1e-4)
