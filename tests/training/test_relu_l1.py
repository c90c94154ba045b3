"""The written-out gradients against finite differences and autograd, in float64."""

import pytest
import torch

from sae_cli.training.relu_l1 import Parameters, relu_l1_step, remove_radial_component

N, D, F, L1 = 11, 5, 9, 0.7


def loss(parameters, x, l1=L1):
    """The loss as the design states it, token by token."""
    total = torch.zeros((), dtype=x.dtype)
    for token in x:
        f = torch.relu(parameters.W_enc @ (token - parameters.b_dec) + parameters.b_enc)
        reconstruction = parameters.W_dec.T @ f + parameters.b_dec
        sparsity = sum(f[i] * torch.linalg.vector_norm(parameters.W_dec[i]) for i in range(len(f)))
        total = total + ((token - reconstruction) ** 2).sum() + l1 * sparsity
    return total / len(x)


def numerical_gradient(function, at, h=1e-6):
    gradient = torch.zeros_like(at)
    for i in range(at.numel()):
        step = torch.zeros_like(at).flatten()
        step[i] = h
        step = step.view_as(at)
        gradient.view(-1)[i] = (function(at + step) - function(at - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("name", Parameters._fields)
def test_gradients_against_finite_differences(parameters, x, name):
    def of_one(value):
        return loss(parameters._replace(**{name: value}), x)

    expected = numerical_gradient(of_one, getattr(parameters, name))
    found = getattr(relu_l1_step(parameters, x, L1).gradients, name)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_gradients_against_autograd(parameters, x):
    leaves = Parameters(*(p.clone().requires_grad_(True) for p in parameters))
    expected = torch.autograd.grad(loss(leaves, x), leaves)
    torch.testing.assert_close(tuple(relu_l1_step(parameters, x, L1).gradients), expected)


def test_gradient_on_the_unit_sphere(parameters, x):
    """The projected gradient is that of the loss as a function of the row's direction."""
    unit = parameters._replace(W_dec=parameters.W_dec / parameters.W_dec.norm(dim=1, keepdim=True))

    def of_direction(rows):
        return loss(unit._replace(W_dec=rows / rows.norm(dim=1, keepdim=True)), x)

    expected = numerical_gradient(of_direction, unit.W_dec)
    found = remove_radial_component(relu_l1_step(unit, x, L1).gradients.W_dec, unit.W_dec)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)
    assert (found * unit.W_dec).sum(dim=1).abs().max() < 1e-12


def test_sums(parameters, x):
    result = relu_l1_step(parameters, x, L1)
    f = torch.relu((x - parameters.b_dec) @ parameters.W_enc.T + parameters.b_enc)
    assert result.l0 == int((f > 0).sum())
    assert torch.equal(result.fired, (f > 0).any(dim=0))
    total = (result.squared_error + L1 * result.l1) / N
    assert total == pytest.approx(loss(parameters, x).item(), rel=1e-12)
