"""Mixing activations across the corpus in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from sae_cli.data.activations import ActivationBlock, rechunk


class ShuffleBuffer:
    """Batches of activations drawn from a window of `size` of them.

    The buffer is filled first; then each incoming batch takes the place of one drawn at random, so
    an activation stays for `size / batch_size` batches on average, and neighbours in the text part.
    What comes out is a function of the sequence of activations, `size`, `batch_size` and `seed`
    alone, not of the blocks they arrive in.

    Attributes:
        contents: what is in the buffer now; after construction the first fill, in order of arrival.
    """

    def __init__(self, blocks: Iterable[ActivationBlock], size: int, batch_size: int, seed: int) -> None:
        self._incoming = rechunk(blocks, batch_size)
        self._batch_size = batch_size
        self._random = np.random.default_rng(seed)
        self.contents = ActivationBlock.join(list(islice(self._incoming, max(1, size // batch_size))))

    def __iter__(self) -> Iterator[ActivationBlock]:
        for block in self._incoming:
            slots = torch.from_numpy(self._random.choice(self.contents.n, block.n, replace=False))
            batch = self.contents.select(slots)
            self.contents.put(slots, block)
            yield batch
        order = torch.from_numpy(self._random.permutation(self.contents.n))
        for slots in order.split(self._batch_size):
            yield self.contents.select(slots)
