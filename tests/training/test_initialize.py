"""Scale, biases and directions a dictionary starts from."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.utils._python_dispatch import TorchDispatchMode

from sae_cli.config.sae import BiasInit
from sae_cli.dictionaries.objective import tied_encoder_scale
from sae_cli.training.initialize import (
    activation_scale,
    geometric_median,
    initial_decoder_bias,
    random_directions,
)
from sae_cli.training.schedules import warmup, warmup_then_decay


def cloud():
    g = torch.Generator().manual_seed(0)
    return torch.randn(200, 3, generator=g) ** 3 + torch.tensor([5.0, -2.0, 0.5])


def test_scale_brings_the_mean_norm_to_sqrt_d():
    x = cloud()
    assert (x * activation_scale(x)).norm(dim=1).mean().item() == pytest.approx(3**0.5, rel=1e-6)


def test_geometric_median_minimises_the_summed_distance():
    x = cloud().double()
    best = minimize(lambda m: (x - torch.tensor(m)).norm(dim=1).sum().item(), x.mean(0).numpy(), tol=1e-10)
    assert torch.allclose(geometric_median(x.float()).double(), torch.tensor(best.x), atol=1e-3)
    assert not torch.allclose(geometric_median(x.float()).double(), x.mean(0), atol=0.05)


def test_decoder_bias_choices():
    x = cloud()
    assert torch.allclose(initial_decoder_bias(x, BiasInit.mean), x.mean(dim=0), atol=1e-5)
    assert torch.equal(initial_decoder_bias(x, BiasInit.geometric_median), geometric_median(x))
    assert torch.equal(initial_decoder_bias(x, BiasInit.zero), torch.zeros(3))


def test_directions_are_unit_and_seeded():
    rows = random_directions(100, 8, seed=1)
    assert torch.allclose(rows.norm(dim=1), torch.ones(100))
    assert torch.equal(rows, random_directions(100, 8, seed=1))
    assert not torch.equal(rows, random_directions(100, 8, seed=2))


def test_schedules_by_hand():
    assert [warmup(step, 10, 0.4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    factors = [warmup_then_decay(step, 10, 0.2, 0.5) for step in range(10)]
    assert factors == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert warmup_then_decay(0, 10, 0.0, 0.0) == 1.0


def test_the_first_reconstruction_is_as_long_as_the_input():
    x = torch.randn(500, 24, generator=torch.Generator().manual_seed(0))
    rows = random_directions(600, 24, seed=1)
    reconstruction = (x @ rows.T * tied_encoder_scale(600, 24)).relu() @ rows
    assert (reconstruction.norm(dim=1) / x.norm(dim=1)).mean().item() == pytest.approx(1, abs=0.1)
    assert tied_encoder_scale(20, 24) == 1


@pytest.mark.parametrize("init", [BiasInit.mean, BiasInit.geometric_median])
def test_statistics_hold_no_copy_of_the_window_in_float64(init):
    """Some rows at a time: of a window of a million numbers no tensor of as many numbers is made in float64."""

    class Largest(TorchDispatchMode):
        of_float64 = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result.dtype == torch.float64:
                self.of_float64 = max(self.of_float64, result.numel())
            return result

    x = torch.randn(2**17, 8)
    with Largest() as largest:
        scale, bias = activation_scale(x), initial_decoder_bias(x, init)
    assert largest.of_float64 <= 2**17
    numbers = x.double().numpy()
    assert scale == pytest.approx(8**0.5 / np.linalg.norm(numbers, axis=1).mean(), rel=1e-12)
    if init is BiasInit.mean:
        np.testing.assert_allclose(bias, numbers.mean(axis=0), atol=1e-7)
