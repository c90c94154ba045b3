"""The threshold that replaces the choice of a batch keeps as many entries as that did."""

from dataclasses import replace

import pytest
import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.batch_topk import BatchTopKObjective
from sae_cli.dictionaries.matryoshka import MatryoshkaObjective

K = 3
AUXILIARY = AuxiliaryLoss(coefficient=1 / 32, k=8)
MAKE = {
    "batch_topk": lambda rows, b_dec: BatchTopKObjective(rows, rows, b_dec, True, K, AUXILIARY),
    "matryoshka": lambda rows, b_dec: MatryoshkaObjective(rows, rows, b_dec, True, K, AUXILIARY, (8, 24)),
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
