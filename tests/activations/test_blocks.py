"""Blocks, the position mask and the shuffle buffer."""

import numpy as np
import pytest
import torch

from sae_cli.activations.blocks import ActivationBlock, live_blocks, rechunk, take
from sae_cli.activations.shuffle import ShuffleBuffer, ShuffledFetches, ShufflePlan
from sae_cli.text.packing import TokenRows


def blocks_of(sizes):
    """Activations that are their own index."""
    start = 0
    for size in sizes:
        index = torch.arange(start, start + size)
        yield ActivationBlock(index[:, None].float(), index, index, index)
        start += size


def indices(blocks):
    return torch.cat([block.tokens for block in blocks])


def test_live_blocks_leave_the_first_position_out():
    rows = TokenRows(np.arange(12).reshape(2, 6), np.arange(12).reshape(2, 6) + 50)
    (places,) = live_blocks([rows], lambda tokens: {"here": tokens[..., None] * torch.ones(3)})
    block = places["here"]
    assert block.tokens.tolist() == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert block.position.tolist() == [1, 2, 3, 4, 5] * 2
    assert block.document.tolist() == [t + 50 for t in block.tokens.tolist()]
    assert torch.equal(block.activations, block.tokens[:, None] * torch.ones(3))


@pytest.mark.parametrize("sizes", [[10], [3, 4, 3], [1] * 10, [7, 3]])
def test_take_and_rechunk_do_not_depend_on_block_sizes(sizes):
    assert indices(take(blocks_of(sizes), 8)).tolist() == list(range(8))
    chunks = list(rechunk(blocks_of(sizes), 4))
    assert [block.n for block in chunks] == [4, 4]
    assert indices(chunks).tolist() == list(range(8))


def numbers(batches):
    return [value for batch in batches for value in batch.flatten().tolist()]


def held(sizes, state=None, start=0, **settings):
    """A buffer over a stream of which the first `start` activations have been read."""
    blocks = (block.select(block.tokens >= start) for block in blocks_of(sizes))
    return ShuffleBuffer(blocks, ShufflePlan(sum(sizes), **settings), state)


def fetched(n, state=None, start=0, **settings):
    return ShuffledFetches(lambda numbers: numbers[:, None].float(), ShufflePlan(n, **settings), state)


def test_shuffle_gives_every_activation_once():
    out = numbers(held([37] * 20, size=100, batch_size=10, seed=0))
    assert sorted(out) == list(range(740))


@pytest.mark.parametrize("size", [1, 64, 1000])
def test_fetching_is_the_same_as_holding(size):
    settings = {"size": size, "batch_size": 8, "seed": 3}
    buffer, store = held([13] * 30, **settings), fetched(390, **settings)
    assert torch.equal(buffer.window, store.window)
    assert numbers(buffer) == numbers(store)


def test_shuffle_depends_on_the_sequence_and_the_seed_only():
    def run(sizes, seed):
        return numbers(held(sizes, size=64, batch_size=8, seed=seed))

    assert run([400], 3) == run([13] * 30 + [10], 3)
    assert run([400], 3) != run([400], 4)


def test_shuffle_mixes_over_the_whole_buffer():
    """A batch's activations come from places in the text that are about as far apart as the buffer is long."""
    batches = list(fetched(10_000, size=1000, batch_size=50, seed=0))
    spread = torch.stack([batch.std() for batch in batches[20:-20]])
    assert spread.mean() > 500
    assert len(batches[0]) == 50


@pytest.mark.parametrize("drawn", [0, 1, 17, 40, 41, 45, 48])
@pytest.mark.parametrize("make", [lambda **more: held([13] * 30, **more), lambda **more: fetched(390, **more)])
def test_a_shuffle_goes_on_where_its_state_was_saved(make, drawn):
    """While activations come in (up to batch 40 of 48), where they end, and while the rest is drawn."""
    settings = {"size": 64, "batch_size": 8, "seed": 3}
    whole, stopped = make(**settings), make(**settings)
    for _ in range(drawn):
        assert torch.equal(next(whole), next(stopped))
    state = {name: tensor.clone() for name, tensor in stopped.state().items()}
    resumed = make(state=state, start=stopped.plan.arrived(drawn), **settings)
    assert torch.equal(resumed.window, stopped.window)
    assert numbers(resumed) == numbers(whole)
