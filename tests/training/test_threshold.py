"""Dictionaries with a threshold have the L0 that was asked for, on activations that they were not trained on."""

from dataclasses import replace

import pytest
import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.batch_topk import BatchTopKObjective
from sae_cli.dictionaries.jump_relu import JumpReluObjective
from sae_cli.dictionaries.matryoshka import MatryoshkaObjective

K = 3
AUXILIARY = AuxiliaryLoss(coefficient=1 / 32, k=8)
MAKE = {
    "batch_topk": lambda start: BatchTopKObjective(start.read, start.written, start.b_dec, True, K, AUXILIARY),
    "matryoshka": lambda start: MatryoshkaObjective(
        start.read, start.written, start.b_dec, True, K, AUXILIARY, (8, 24)
    ),
}


@pytest.mark.parametrize("name", MAKE)
def test_l0_of_a_short_training_is_k(name, small):
    data = small.batches(464)
    trainer = small.trainer(replace(small.recipe, steps=400, decoder_fit=0.0, clip_grad_norm=1.0), MAKE[name], data)
    for x in data[:400]:
        trainer.step(x)
    unseen = torch.cat(data[400:])
    l0 = (trainer.dictionary().encode(unseen) > 0).sum(dim=1).double().mean()
    assert float(l0) == pytest.approx(K, rel=0.02)


@pytest.mark.parametrize(
    ("coefficient", "first"), [(0.2, 0.3), (1e-9, 0.3), (1e-9, 1.0)], ids=["by default", "from above", "from below"]
)
def test_l0_of_jump_relu_is_k_also_where_the_penalty_has_no_say(coefficient, first, small):
    def make(start):
        return JumpReluObjective(start.read, start.written, start.b_dec, True, "l0_target", coefficient, K, 0.2, first)

    data = small.batches(464)
    trainer = small.trainer(replace(small.recipe, steps=400, decoder_fit=0.0), make, data)
    for x in data[:400]:
        trainer.step(x)
    l0 = (trainer.dictionary().encode(torch.cat(data[400:])) > 0).sum(dim=1).double().mean()
    assert float(l0) == pytest.approx(K, rel=0.06)
