"""A forbidden direction: no encoder row has a part of it, at any step, whatever is trained."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.training.resampling import ResamplePlan

V = F.normalize(torch.randn(16, generator=torch.Generator().manual_seed(3)), dim=0)
MAKE = {
    "relu": lambda start: ReluObjective(start.read, start.written, start.b_dec, True, 1.0),
    "gated": lambda start: GatedObjective(start.read, start.written, start.b_dec, True, 1.0),
    "topk": lambda start: TopKObjective(start.read, start.written, start.b_dec, True, 3, AuxiliaryLoss(1 / 32, 8)),
}


@pytest.mark.parametrize("kernel", ["reference", "auto"])
@pytest.mark.parametrize("name", MAKE)
def test_encoder_rows_stay_orthogonal(small, name, kernel):
    data = small.batches(50)
    plan = ResamplePlan(at=() if name == "topk" else (30,), inputs=512, rewarm_steps=5, exempt_fraction=0.0)
    recipe = replace(small.recipe, kernel=kernel, resampling=plan, dead_after=1000)
    free, bound = (small.trainer(recipe, MAKE[name], data, v) for v in (None, V))
    for each in (free, bound):
        if name == "relu":
            each.objective.b_enc[:4] = -1e6
        for x in data:
            each.step(x)
            assert each is free or (each.objective.W_enc @ V).abs().max() < 1e-6
    a, b = free.dictionary(), bound.dictionary()
    assert (b.W_enc @ V).abs().max() < 1e-6 < 0.1 < (a.W_enc @ V).abs().max()
    assert (b.W_dec @ V).abs().max() > 0.1  # what it reconstructs is all of x
    assert not torch.allclose(a.W_dec, b.W_dec, atol=0.01)
    if name == "relu":
        assert bound.history()["resampled"][0][:4].all()


def test_what_the_encoder_reads_does_not_depend_on_that_direction(small):
    data = small.batches(50)
    trainer = small.trainer(small.recipe, small.relu(), data, V)
    for x in data:
        trainer.step(x)
    dictionary, x = trainer.dictionary(), data[0]
    moved = x + 3 * torch.randn(len(x), 1, generator=torch.Generator().manual_seed(0)) * V
    torch.testing.assert_close(dictionary.encode(moved), dictionary.encode(x), rtol=1e-4, atol=1e-4)


def test_the_gradient_is_that_on_the_subspace(small):
    data = small.batches(4)
    trainer = small.trainer(small.recipe, small.relu(), data, V)
    for x in data:
        trainer.step(x)
    mean = trainer.adam.states["W_enc"].mean
    assert (mean @ V).abs().max() < 1e-5 * mean.abs().max()
