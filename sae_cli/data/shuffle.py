"""Mixing activations across the corpus in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

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
        self._generator = torch.Generator().manual_seed(seed)
        self.contents = ActivationBlock.join(list(islice(self._incoming, max(1, size // batch_size))))

    def __iter__(self) -> Iterator[ActivationBlock]:
        for block in self._incoming:
            slots = self._permutation()[: self._batch_size]
            batch = self.contents.select(slots)
            self.contents.put(slots, block)
            yield batch
        for slots in self._permutation().split(self._batch_size):
            yield self.contents.select(slots)

    def _permutation(self) -> torch.Tensor:
        return torch.randperm(self.contents.n, generator=self._generator)
