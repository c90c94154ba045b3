"""Every architecture finds known directions in synthetic activations, through the stage as a user runs it."""

import pytest

import sae_cli
from sae_cli.config.compose import Composer, typed
from sae_cli.metrics.recovery import max_cosine_similarity
from sae_cli.stages import build, train

SIZE = ["data=synthetic", "data.n_features=128", "data.d=96", "data.mean_active=4", "dict_size=192", "tokens=250_000"]
ARCHITECTURES = {
    "relu": ["l1=2"],
    "topk": ["k=4"],
    "batch_topk": ["k=4"],
    "matryoshka": ["k=4"],
    "gated": ["l1=3"],
    "jump_relu": ["k=4"],
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_truth_is_recovered(architecture, tmp_path):
    overrides = [*SIZE, f"sae={architecture}", *ARCHITECTURES[architecture], "train.shuffle_buffer=16_384"]
    config = typed(Composer().compose("train", overrides).settings)
    train.run(config, tmp_path / "run")
    found = max_cosine_similarity(build.synthetic(config.data).directions(), sae_cli.load(tmp_path / "run").W_dec)
    assert found.mean() >= 0.99
    assert (found >= 0.95).float().mean() >= 0.98
