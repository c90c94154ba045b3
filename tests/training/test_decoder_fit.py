"""Fitting the decoder to frozen codes: gradients, unchanged codes, and what it is for."""

import pytest
import torch

from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.training.decoder_fit import FrozenEncoder

N, D, F = 11, 5, 9


def codes(parameters, x):
    return torch.relu((x - parameters.b_dec) @ parameters.W_enc.T + parameters.b_enc)


def test_gradients_against_autograd(parameters, x):
    encoder = FrozenEncoder.of(parameters)
    W_dec, b_dec = (tensor.clone().requires_grad_(True) for tensor in (parameters.W_dec, parameters.b_dec))
    loss = (x - codes(parameters, x) @ W_dec - b_dec).square().sum() / N
    expected = torch.autograd.grad(loss, (W_dec, b_dec))
    result = encoder.step(parameters.W_dec, parameters.b_dec, x)
    torch.testing.assert_close((result.gradients.W_dec, result.gradients.b_dec), expected)
    assert not result.gradients.W_enc.any() and not result.gradients.b_enc.any()
    assert result.squared_error == pytest.approx(N * loss.item())
    assert result.l0 == int((codes(parameters, x) > 0).sum())


@pytest.mark.parametrize("unit", [True, False])
def test_the_dictionary_has_the_same_support_and_the_new_decoder(parameters, x, unit):
    encoder = FrozenEncoder.of(parameters)
    g = torch.Generator().manual_seed(2)
    W_dec, b_dec = torch.randn(F, D, generator=g, dtype=torch.float64), torch.randn(D, generator=g, dtype=torch.float64)
    result = encoder.with_decoder(W_dec, b_dec, unit)
    assert torch.equal(codes(result, x) > 0, codes(parameters, x) > 0)
    torch.testing.assert_close(codes(result, x) @ result.W_dec + result.b_dec, codes(parameters, x) @ W_dec + b_dec)
    if unit:
        torch.testing.assert_close(result.W_dec.norm(dim=1), torch.ones(F, dtype=torch.float64))
    else:
        assert torch.equal(result.W_dec, W_dec)


def test_it_is_a_dictionary(parameters, x):
    folded = FrozenEncoder.of(parameters).with_decoder(parameters.W_dec, parameters.b_dec, unit=True)
    tensors = {name: tensor.float() for name, tensor in folded._asdict().items()}
    dictionary = ReluDictionary(tensors | {"activation_mean": torch.zeros(D)})
    expected = codes(parameters, x) @ parameters.W_dec + parameters.b_dec
    torch.testing.assert_close(dictionary(x.float()), expected.float(), rtol=1e-4, atol=1e-4)
