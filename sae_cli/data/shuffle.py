"""Mixing activations across the corpus in bounded memory.

A window of activations is filled first; then each batch that comes in takes the place of one drawn at random, so an
activation stays for `size / batch_size` batches on average, and neighbours in the text part. What comes out is a
function of the sequence of activations, `size`, `batch_size` and `seed` alone, not of the blocks they arrive in, nor
of whether they are held in memory (`ShuffleBuffer`) or fetched when they are due (`ShuffledFetches`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from sae_cli.data.activations import ActivationBlock, rechunk
from sae_cli.tensor_types import Float, Int, Tensor


class ShuffledBatches(ABC):
    """Batches of activations [batch_size, d] in shuffled order."""

    @property
    @abstractmethod
    def first(self) -> Float[Tensor, "S D"]:
        """The activations that fill the window at first, in order of arrival; ask for them before the batches."""

    @abstractmethod
    def __iter__(self) -> Iterator[Float[Tensor, "N D"]]: ...


class ShuffleBuffer(ShuffledBatches):
    """The window held in memory, for streams."""

    def __init__(self, blocks: Iterable[ActivationBlock], size: int, batch_size: int, seed: int) -> None:
        self._incoming = (block.activations for block in rechunk(blocks, batch_size))
        self._batch_size = batch_size
        self._random = np.random.default_rng(seed)
        self._window = torch.cat(list(islice(self._incoming, _batches_held(size, batch_size))))

    @property
    def first(self) -> Float[Tensor, "S D"]:
        return self._window

    def __iter__(self) -> Iterator[Float[Tensor, "N D"]]:
        window = self._window
        for batch in self._incoming:
            slots = torch.from_numpy(_draw(self._random, len(window), self._batch_size))
            drawn = window[slots]
            window[slots] = batch
            yield drawn
        for slots in _rest(self._random, len(window), self._batch_size):
            yield window[torch.from_numpy(slots)]


class ShuffledFetches(ShuffledBatches):
    """The window as numbers of activations, for a store from which any can be fetched.

    Args:
        fetch: from numbers to activations.
        n: how many there are; what does not fill a batch at the end is left out.
    """

    def __init__(
        self, fetch: Callable[[Int[Tensor, " N"]], Float[Tensor, "N D"]], n: int, size: int, batch_size: int, seed: int
    ) -> None:
        self._fetch, self._batch_size = fetch, batch_size
        self._n = n // batch_size * batch_size
        self._held = min(self._n, _batches_held(size, batch_size) * batch_size)
        self._random = np.random.default_rng(seed)

    @property
    def first(self) -> Float[Tensor, "S D"]:
        return self._fetch(torch.arange(self._held))

    def __iter__(self) -> Iterator[Float[Tensor, "N D"]]:
        window = np.arange(self._held)
        for start in range(self._held, self._n, self._batch_size):
            slots = _draw(self._random, self._held, self._batch_size)
            drawn = window[slots]
            window[slots] = np.arange(start, start + self._batch_size)
            yield self._fetch(torch.from_numpy(drawn))
        for slots in _rest(self._random, self._held, self._batch_size):
            yield self._fetch(torch.from_numpy(window[slots]))


def _batches_held(size: int, batch_size: int) -> int:
    return max(1, size // batch_size)


def _draw(random: np.random.Generator, held: int, batch_size: int) -> np.ndarray:
    """Places in the window that the next batch is taken from."""
    return random.choice(held, batch_size, replace=False)


def _rest(random: np.random.Generator, held: int, batch_size: int) -> Iterator[np.ndarray]:
    """Places of what is left when nothing comes in any more, batch by batch."""
    order = random.permutation(held)
    return (order[start : start + batch_size] for start in range(0, held, batch_size))
