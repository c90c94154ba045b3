"""Whole runs: the fast kernels end where the plain one ends, and the same seed gives the same bits."""

import pytest
import torch

import sae_cli
from sae_cli.commands import train
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from tests.known import document_of

SIZE = "data=synthetic data.n_features=96 data.d=48 data.mean_active=4 dict_size=128 tokens=60_000 device=cpu"
SPARSITY = {
    "relu": "l1=1",
    "gated": "l1=1",
    "topk": "k=4",
    "batch_topk": "k=4",
    "matryoshka": "k=4",
    "jump_relu": "k=4",
}


def run(directory, architecture, *overrides):
    given = [*SIZE.split(), f"sae={architecture}", SPARSITY[architecture], "train.shuffle_buffer=8_192", *overrides]
    return document_of(train.run(configured(TrainConfig, given), directory))["figures"]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SPARSITY)
def test_a_fast_run_ends_where_a_plain_one_does(architecture, tmp_path):
    """Means over three seeds: FVU within .5 %, L0 within 1 %."""
    found = {"reference": [], "auto": []}
    for seed in range(3):
        for name, figures in found.items():
            place = tmp_path / f"{name}{seed}"
            figures.append(run(place, architecture, f"seed={seed}", f"train.kernel={name}"))
    for figure, tolerance in (("fvu", 0.005), ("l0", 0.01)):
        plain, fast = (sum(each[figure] for each in figures) / 3 for figures in found.values())
        assert fast == pytest.approx(plain, rel=tolerance), figure


@pytest.mark.parametrize("architecture", ["relu", "batch_topk"])
def test_the_same_seed_gives_the_same_bits(architecture, tmp_path):
    for name in ("a", "b"):
        run(tmp_path / name, architecture, "tokens=20_000")
    a, b = (sae_cli.load(tmp_path / name).tensors() for name in ("a", "b"))
    assert all(torch.equal(a[key], b[key]) for key in a)
