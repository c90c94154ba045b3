"""What is said while the shuffle window fills."""

import torch

from sae_cli.activations import shuffle
from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.shuffle import ShuffleBuffer, ShufflePlan


def test_the_window_says_how_far_it_is_from_the_first_block_on(capsys, monkeypatch):
    monkeypatch.setattr(shuffle, "FIRST_ESTIMATE", 0.0)
    x, numbers = torch.arange(40.0).reshape(20, 2), torch.arange(20)
    blocks = [ActivationBlock(*(each[i : i + 5] for each in (x, numbers, numbers, numbers))) for i in range(0, 20, 5)]
    buffer = ShuffleBuffer(blocks, ShufflePlan(tokens=20, size=10, batch_size=2, seed=0))
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith("filling the shuffle window: 50%, ") and said.endswith("tokens 5 of 10")
    assert torch.equal(buffer.window, x[:10])
