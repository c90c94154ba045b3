"""A trainer that is stopped, saved, and restored elsewhere goes on as if nothing had happened, bit for bit."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from sae_cli.artifacts.tensors import read_tensors, write_tensors
from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.batch_topk import BatchTopKObjective
from sae_cli.dictionaries.gated import GatedObjective
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.matryoshka import MatryoshkaObjective
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.dictionaries.topk import TopKObjective
from sae_cli.training.resampling import ResamplePlan

AUXILIARY = AuxiliaryLoss(coefficient=1 / 32, k=8)
MAKE = {
    "relu": lambda s: ReluObjective(s.read, s.written, s.b_dec, True, 3.0),
    "free": lambda s: ReluObjective(s.read, s.written, s.b_dec, False, 3.0),
    "gated": lambda s: GatedObjective(s.read, s.written, s.b_dec, True, 3.0),
    "topk": lambda s: TopKObjective(s.read, s.written, s.b_dec, True, 3, AUXILIARY),
    "batch_topk": lambda s: BatchTopKObjective(s.read, s.written, s.b_dec, True, 3, AUXILIARY),
    "matryoshka": lambda s: MatryoshkaObjective(s.read, s.written, s.b_dec, True, 3, AUXILIARY, (8, 24)),
    "jump_relu": lambda s: JumpReluObjective(s.read, s.written, s.b_dec, True, "l0_target", 1.0, 2.0, 0.1, 0.3),
}
RESAMPLED = {"relu", "free", "gated", "jump_relu"}


def recipe_for(small, name):
    at = ResamplePlan(at=(12, 30), inputs=700, rewarm_steps=5, exempt_fraction=0.25)
    more: dict[str, Any] = {"resampling": at} if name in RESAMPLED else {"decoder_fit": 0.0}
    if name in ("gated", "jump_relu"):
        more["decoder_fit"] = 0.0
    return replace(small.recipe, kernel="auto", dead_after=1500, density_windows=9, clip_grad_norm=1.0, **more)


def finish(trainer, data):
    lines = []
    for x in data:
        trainer.step(x)
        if trainer.step_number % 4 == 0:
            lines.append(trainer.close_window())
    return lines, {**trainer.dictionary().tensors(), **trainer.history()}


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("stopped_at", [3, 11, 40, 46])
def test_a_restored_trainer_goes_on_bit_for_bit(small, name, stopped_at, tmp_path):
    """In the middle of a line of the curve, before a resampling, where the decoder fit begins, and within it."""
    data, recipe = small.batches(50), recipe_for(small, name)
    forbidden = torch.eye(16)[0] if name == "relu" else None

    def begin(data):
        return small.trainer(recipe, MAKE[name], data, forbidden)

    uninterrupted, stopped = begin(data), begin(data)
    before, _ = finish(uninterrupted, data[:stopped_at])
    assert finish(stopped, data[:stopped_at])[0] == before
    write_tensors(tmp_path / "state", stopped.state())

    resumed = begin(data[:2])  # the window holds something else by now
    resumed.restore(read_tensors(tmp_path / "state"))
    lines, expected = finish(uninterrupted, data[stopped_at:])
    found_lines, found = finish(resumed, data[stopped_at:])
    assert found_lines == lines
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert torch.equal(found[key], tensor), key
    assert resumed.state().keys() == uninterrupted.state().keys()


def test_the_choice_of_kernel_is_restored(small):
    data = small.batches(6)
    a, b = (small.trainer(replace(small.recipe, kernel="auto"), small.relu(), data) for _ in range(2))
    assert a.kernels.kernel is a.kernels._dense
    a.kernels.observe(0.0)
    b.restore(a.state())
    assert b.kernels.kernel is b.kernels._sparse
