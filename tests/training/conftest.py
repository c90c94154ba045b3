"""A training of a second on activations with a known truth."""

from itertools import islice

import pytest
import torch

from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.config.sae import BiasInit
from sae_cli.config.split import Split
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.training.recipe import Recipe
from sae_cli.training.trainer import Trainer


class Small:
    """A recipe, activations in batches, and what is trained on them."""

    recipe = Recipe(
        dict_size=32,
        steps=50,
        lr=3e-3,
        betas=(0.9, 0.999),
        clip_grad_norm=None,
        lr_warmup=0.1,
        lr_decay=0.2,
        sparsity_warmup=0.1,
        decoder_fit=0.2,
        b_dec_init=BiasInit.mean,
        dead_after=2000,
        kernel="reference",
        seed=0,
    )
    truth = SyntheticActivations(
        d=16, n_features=24, mean_active=2.0, frequency_exponent=0.5, correlation=0.0, noise=0.0, seed=0
    )

    def batches(self, n, size=256):
        blocks = self.truth.blocks(Split.train)
        x = torch.cat([block.activations for block in islice(blocks, n * size // 4096 + 1)])
        return x[: n * size].split(size)

    def relu(self, unit_rows=True, l1=1.0):
        return lambda start: ReluObjective(start.read, start.written, start.b_dec, unit_rows, l1)

    def trainer(self, recipe, make, data, forbidden=None):
        return Trainer(recipe, make, torch.cat(data), torch.device("cpu"), forbidden)


@pytest.fixture(scope="session")
def small():
    return Small()
