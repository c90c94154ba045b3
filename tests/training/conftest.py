"""Small random dictionaries and activations, in float64."""

import pytest
import torch

from sae_cli.training.relu_l1 import Parameters

N, D, F = 11, 5, 9


@pytest.fixture
def parameters():
    g = torch.Generator().manual_seed(0)
    return Parameters(*(torch.randn(s, generator=g, dtype=torch.float64) for s in ((F, D), (F,), (F, D), (D,))))


@pytest.fixture
def x():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
