"""Every architecture finds known directions in synthetic activations, as a user runs it (and without shape checks,
which would take most of the time)."""

import subprocess
import sys

import pytest

import sae_cli
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.config.data import SyntheticData
from sae_cli.metrics.similarity import max_cosines

SIZE = "data.n_features=128 data.d=96 data.mean_active=4 dict_size=192 tokens=250_000 train.shuffle_buffer=16_384"

# Mean cosine of each true direction with its nearest feature, after so short a training; random directions have .28.
LEAST = {"relu": 0.99, "topk": 0.97, "gated": 0.94, "batch_topk": 0.94, "matryoshka": 0.92, "jump_relu": 0.9}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architectures", "sparsity"), [("topk,batch_topk,matryoshka,jump_relu", "k=4"), ("relu,gated", "l1=2")]
)
def test_the_truth_is_recovered(architectures, sparsity, tmp_path):
    arguments = f"train -m data=synthetic {SIZE} sae={architectures} {sparsity} hydra/launcher=shared --quiet"
    command = [sys.executable, "-m", "sae_cli", *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    runs = done.stdout.split()
    assert len(runs) == len(architectures.split(","))
    truth = SyntheticActivations.of(SyntheticData(n_features=128, d=96, mean_active=4)).directions()
    for run in runs:
        dictionary = sae_cli.load(tmp_path / run)
        found = max_cosines(truth, dictionary.W_dec)
        assert found.mean() >= LEAST[dictionary.architecture], run
