"""Activations of a model on a GPU stay there: here on torch's device without memory, from which nothing can be read."""

import numpy as np
import pytest
import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.live import LiveActivations
from sae_cli.activations.shuffle import ShuffleBuffer, ShufflePlan
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.errors import JobError

CPU = torch.device("cpu")
META = torch.device("meta")


def blocks(n, d=4, size=8, device=META):
    for start in range(0, n, size):
        origin = torch.arange(start, start + size)
        values = (origin[:, None] + torch.arange(d) / 8).to(device)
        yield ActivationBlock(values, origin, origin, origin)


def test_window_and_batches_are_where_activations_come():
    """A number that went through the host would be an error."""
    plan = ShufflePlan(tokens=96, size=32, batch_size=16, seed=0)
    with pytest.raises(NotImplementedError):
        torch.ones(3, device=META).cpu()
    shuffled = ShuffleBuffer(blocks(96), plan)
    assert shuffled.window.device == META
    assert [batch.device for batch in shuffled] == [META] * plan.batches


def test_the_same_batches_are_drawn_wherever_they_are():
    """Draws are made on the host: a window that is taken up from a file is brought to where the others are."""
    plan = ShufflePlan(tokens=96, size=32, batch_size=16, seed=0)
    whole = list(ShuffleBuffer(blocks(96, device=CPU), plan))
    first = ShuffleBuffer(blocks(96, device=CPU), plan)
    early = [next(first), next(first)]
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    late = list(ShuffleBuffer(list(blocks(96, device=CPU))[plan.arrived(2) // 8 :], plan, state))
    np.testing.assert_array_equal(torch.cat([*early, *late]), torch.cat(whole))
    on_device = ShuffleBuffer(list(blocks(96))[plan.arrived(2) // 8 :], plan, state)
    assert next(on_device).device == META


def test_a_choice_that_is_made_on_the_device_is_brought_to_the_origin():
    (block,) = blocks(8)
    kept = block.select(torch.tensor([1, 3]))
    assert kept.activations.shape == (2, 4) and kept.tokens.tolist() == [1, 3]


def live_activations():
    config = configured(TrainConfig, ["model=demo-xs", "layer=1", "model_rows=2", "data.context=32", "device=cpu"])
    live = LiveActivations(config, torch.device("cpu"), stays=True)
    assert not live.stays  # on a CPU they are where they are needed
    live.stays = True
    return live, live.watch(config)


def test_passes_say_whether_they_are_finite_before_they_are_handed_over(monkeypatch):
    """So that nobody who trains on them has to look, and wait."""
    live, site = live_activations()
    other, same = live_activations()
    other.stays = False
    blocks, lenient = (live.blocks(site, 0, refuse=True), other.blocks(same, 0)), live.blocks(site, 0)
    for _ in range(2):
        ours, theirs = (next(each) for each in blocks)
        assert torch.equal(ours.activations, theirs.activations) and ours.activations.dtype == torch.float32

    capture = live.model.capture

    def broken(rows, sites):
        found = capture(rows, sites)
        found[site][1, 7] = torch.nan
        return found

    monkeypatch.setattr(live.model, "capture", broken)
    with pytest.raises(JobError, match=r"training activations: expected finite .*, found NaN or infinity in 1 of 62"):
        next(blocks[0])
    assert [next(lenient).activations.isfinite().all().item() for _ in range(3)] == [True, True, False]
