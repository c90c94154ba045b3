"""L1 coefficients in published units: what the published loss trains, from activations as they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sae_cli.config.sae import L1Units
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.objective import StepContext
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.kernels.reference import ReferenceKernel
from sae_cli.training.adam import Adam
from sae_cli.training.units import loss_units

D, F, N, L1 = 5, 7, 40, 0.3
OBJECTIVES = {"relu": ReluObjective, "gated": GatedObjective}


def published(kind, units, x, p):
    """The loss in activations as they are, by autograd in float64."""
    if units is L1Units.raw_mean:
        per_token = lambda error: error.square().mean(dim=1)  # noqa: E731
    else:
        per_token = lambda error: error.square().sum(dim=1)  # noqa: E731
    pre = (x - p["b_dec"]) @ p["W_enc"].T
    if kind == "relu":
        f = (pre + p["b_enc"]).relu()
        return (per_token(x - f @ p["W_dec"] - p["b_dec"]) + L1 * f.sum(dim=1)).mean()
    pi = (pre + p["b_gate"]).relu()
    f = (p["r_mag"].exp() * pre + p["b_mag"]).relu() * (pi > 0)
    auxiliary = x - pi @ p["W_dec"].detach() - p["b_dec"].detach()
    losses = per_token(x - f @ p["W_dec"] - p["b_dec"]) + L1 * pi.sum(dim=1) + per_token(auxiliary)
    return losses.mean()


@pytest.mark.parametrize("units", [L1Units.raw_sum, L1Units.raw_mean])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_loss_of_training_is_the_published_one_in_other_units(kind, units):
    """Loss, and gradients of every parameter, after conversion: float32 against autograd in float64."""
    g, scale = torch.Generator().manual_seed(0), 0.37
    x = torch.randn(N, D, generator=g) * 4 + 1
    W = torch.randn(2, F, D, generator=g)
    objective = OBJECTIVES[kind](W[0], W[1] / W[1].norm(dim=1, keepdim=True), scale * torch.ones(D), True, 1.0)
    for name in objective.first_values:
        objective.parameters[name].add_(0.3 * torch.randn(F, generator=g))
    factors = loss_units(units, scale, D)
    objective.l1 = L1 * factors.l1
    context = StepContext(batch_size=N, sparsity=1.0, dead=torch.zeros(F, dtype=torch.bool))
    sums = objective.accumulate(x * scale, x * scale, ReferenceKernel(), context)

    in_units = objective.dictionary.in_activation_units & objective.parameters.keys()
    raw = {n: (p / scale if n in in_units else p).double().requires_grad_() for n, p in objective.parameters.items()}
    loss = published(kind, units, x.double(), raw)
    loss.backward()
    assert (sums.squared_error + sums.penalty) / N / factors.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in objective.parameters.items():
        found = parameter.grad.double() / factors.loss * (scale if name in in_units else 1)
        torch.testing.assert_close(found, raw[name].grad, rtol=1e-4, atol=1e-5)


def test_the_factors():
    assert loss_units(L1Units.scaled, 0.5, 8) == (1, 1)
    assert loss_units(L1Units.raw_sum, 0.5, 8) == (0.5, 0.25)
    assert loss_units(L1Units.raw_mean, 0.5, 8) == (4.0, 2.0)


@pytest.mark.parametrize("units", L1Units)
def test_the_same_coefficient_in_any_units_trains_the_same_dictionary(small, units):
    data = small.batches(30)
    plain = small.trainer(small.recipe, small.relu(l1=2.0), data)
    factor = loss_units(units, plain.scale, 16).l1
    other = small.trainer(replace(small.recipe, l1_units=units), small.relu(l1=2.0 / factor), data)
    for x in data:
        plain.step(x)
        other.step(x)
    line, same = other.close_window(), plain.close_window()
    assert line["l1"] == pytest.approx(2.0 / factor)
    assert line["loss"] * other.units.loss == pytest.approx(same["loss"], rel=1e-6)
    for name, tensor in plain.dictionary().tensors().items():
        torch.testing.assert_close(other.dictionary().tensors()[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_coefficient_is_converted_by_the_scale_that_training_began_with(small):
    """Taken up elsewhere, where the sample is another one."""
    recipe = replace(small.recipe, l1_units=L1Units.raw_mean)
    trainer = small.trainer(recipe, small.relu(l1=0.1), small.batches(10))
    other = small.trainer(recipe, small.relu(l1=0.1), [3 * x for x in small.batches(10)])
    assert trainer.objective.l1 != other.objective.l1
    other.restore(trainer.state())
    assert trainer.objective.l1 == other.objective.l1 == 0.1 * trainer.scale * 16


def test_activations_as_they_are_are_trained_on_as_they_are(small):
    data = small.batches(10)
    recipe = replace(small.recipe, scale_activations=False, l1_units=L1Units.raw_sum)
    trainer = small.trainer(recipe, small.relu(l1=0.1), data)
    assert (trainer.scale, trainer.read_scale, trainer.objective.l1) == (1.0, 1.0, 0.1)
    trainer.step(data[0])
    assert torch.equal(trainer.dictionary().W_dec, trainer.objective.W_dec)


def test_gradients_of_a_mean_are_smaller_where_it_matters(small):
    """To Adam the unit of a loss matters beside its ε alone: there a tenth of the gradients is another step."""
    g = torch.Generator().manual_seed(0)
    steps = []
    for scale in (1.0, 0.1):
        objective = ReluObjective(torch.ones(2, 3), torch.eye(3)[:2], torch.zeros(3), False, 0.0)
        adam = Adam(objective, (0.9, 0.999), clip=None, gradient_scale=scale)
        grad = objective.W_enc.grad
        assert grad is not None
        grad.copy_(torch.full((2, 3), 1e-7) + 1e-9 * torch.randn(2, 3, generator=g.manual_seed(0)))
        expected = scale * grad.double() / (scale * grad.double().abs() + 1e-8)
        adam.step(ReferenceKernel(), 0.5)
        np.testing.assert_allclose(1 - objective.W_enc, 0.5 * expected, rtol=1e-5)
        steps.append(objective.W_enc.clone())
    assert not torch.allclose(*steps)
