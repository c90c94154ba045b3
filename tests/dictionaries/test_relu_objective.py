"""The L1 loss token by token, and its gradients against finite differences, in float64."""

import pytest
import torch

from sae_cli.dictionaries.objective import StepContext
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.kernels.reference import ReferenceKernel
from tests.known import present

N, D, F, L1 = 11, 5, 9, 0.7
CONTEXT = StepContext(batch_size=N, sparsity=1.0, dead=torch.zeros(F, dtype=torch.bool))


@pytest.fixture
def x():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def objective(unit_rows):
    g = torch.Generator().manual_seed(0)
    W_enc, W_dec = torch.randn(2, F, D, generator=g, dtype=torch.float64)
    if unit_rows:
        W_dec = W_dec / W_dec.norm(dim=1, keepdim=True)
    made = ReluObjective(W_enc, W_dec, torch.randn(D, generator=g, dtype=torch.float64), unit_rows, L1)
    made.b_enc += torch.randn(F, generator=g, dtype=torch.float64)
    return made


def loss(parameters, x):
    """The loss as the design states it, token by token."""
    W_enc, b_enc, W_dec, b_dec = parameters.values()
    total = torch.zeros((), dtype=x.dtype)
    for token in x:
        f = torch.relu(W_enc @ (token - b_dec) + b_enc)
        reconstruction = W_dec.T @ f + b_dec
        sparsity = sum(f[i] * torch.linalg.vector_norm(W_dec[i]) for i in range(len(f)))
        total = total + ((token - reconstruction) ** 2).sum() + L1 * sparsity
    return total / len(x)


def numerical_gradient(function, at, h=1e-6):
    gradient = torch.zeros_like(at)
    for i in range(at.numel()):
        step = torch.zeros_like(at).flatten()
        step[i] = h
        step = step.view_as(at)
        gradient.view(-1)[i] = (function(at + step) - function(at - step)) / (2 * h)
    return gradient


@pytest.mark.parametrize("unit_rows", [False, True])
@pytest.mark.parametrize("name", ReluObjective.trained)
def test_gradients_against_finite_differences(name, unit_rows, x):
    """With unit rows, the gradient along the sphere is that of the loss as a function of each row's direction."""
    of = objective(unit_rows)
    of.accumulate(x, x, ReferenceKernel(), CONTEXT)
    of.finish_gradients(CONTEXT)

    def of_one(value):
        if unit_rows and name == "W_dec":
            value = value / value.norm(dim=1, keepdim=True)
        return loss({**of.parameters, name: value}, x)

    found = present(of.parameters[name].grad)
    if unit_rows and name == "W_dec":
        found = found - (found * of.W_dec).sum(dim=1, keepdim=True) * of.W_dec
    torch.testing.assert_close(found, numerical_gradient(of_one, of.parameters[name]), rtol=1e-6, atol=1e-7)


def test_sums(x):
    of = objective(unit_rows=False)
    result = of.accumulate(x, x, ReferenceKernel(), CONTEXT)
    f = torch.relu((x - of.b_dec) @ of.W_enc.T + of.b_enc)
    assert result.l0 == int((f > 0).sum())
    assert torch.equal(result.count, (f > 0).sum(dim=0))
    assert torch.equal(result.fired, (f > 0).any(dim=0))
    assert (result.squared_error + result.penalty) / N == pytest.approx(loss(of.parameters, x).item(), rel=1e-12)
