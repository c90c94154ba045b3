"""Mixing activations across the corpus in bounded memory.

A window of activations is filled first; then each batch that comes in takes the place of one drawn at random, so an
activation stays for `size / batch_size` batches on average, and neighbors in the text part. What comes out is a
function of the sequence of activations, `size`, `batch_size` and `seed` alone, not of the blocks they arrive in, nor
of whether they are held in memory (`ShuffleBuffer`) or fetched when they are due (`ShuffledFetches`).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.activations.blocks import ActivationBlock, rechunk
from sae_cli.state import State, number
from sae_cli.tensor_types import Float, Int, Tensor, TokenActivations
from sae_cli.terminal.progress import FIRST_ESTIMATE, Advance, progress


class ShufflePlan(NamedTuple):
    """How a stream is plan into shuffled batches.

    Attributes:
        tokens: activations of the stream; what does not fill a batch at the end is left out.
        size: activations of the window.
        batch_size: activations of a batch.
        seed: of the draws.
    """

    tokens: int
    size: int
    batch_size: int
    seed: int

    @property
    def batches(self) -> int:
        return self.tokens // self.batch_size

    @property
    def held(self) -> int:
        """Batches that the window holds."""
        return min(self.batches, max(1, self.size // self.batch_size))

    def arrived(self, drawn: int) -> int:
        """Activations that have entered the window once so many batches have been drawn."""
        return min(self.held + drawn, self.batches) * self.batch_size


class ShuffledBatches(ABC, Iterator[TokenActivations]):
    """Batches of activations [batch_size, d] in shuffled order.

    Args:
        plan: how they are made.
        state: where an earlier one stood, to go on from there; any error where it is not of one like this.

    Attributes:
        drawn: batches drawn so far.
    """

    def __init__(self, plan: ShufflePlan, state: State | None = None) -> None:
        self.plan = plan
        self.drawn = 0
        self._random = np.random.default_rng(plan.seed)
        self._last: np.ndarray | None = None  # the places of what is left, in order, once nothing comes in any more
        if state is not None:
            self.drawn = int(state["drawn"])
            if not 0 <= self.drawn <= plan.batches:
                raise ValueError(f"{self.drawn:,} batches drawn of {plan.batches:,}")
            self._random.bit_generator.state = json.loads(bytes(state["random"].numpy()))

    @property
    @abstractmethod
    def window(self) -> Float[Tensor, "S D"]:
        """The activations in the window; at first they are those of the beginning, in order of arrival."""

    @abstractmethod
    def _exchange(self, places: np.ndarray) -> Float[Tensor, "N D"]:
        """What is at these places, which the next activations that come in take."""

    @abstractmethod
    def _at(self, places: np.ndarray) -> Float[Tensor, "N D"]:
        """What is at these places."""

    @abstractmethod
    def _places(self) -> Float[Tensor, "S D"] | Int[Tensor, " S"]:
        """What the window holds, in the form in which it is saved."""

    def __next__(self) -> Float[Tensor, "N D"]:
        held, size = self.plan.held, self.plan.batch_size
        if self.drawn == self.plan.batches:
            raise StopIteration
        if self.drawn < self.plan.batches - held:
            batch = self._exchange(self._random.choice(held * size, size, replace=False))
        else:
            if self._last is None:
                self._before_last = self._generator_state()
                self._last = self._random.permutation(held * size)
            start = (self.drawn - (self.plan.batches - held)) * size
            batch = self._at(self._last[start : start + size])
        self.drawn += 1
        return batch

    def state(self) -> dict[str, Tensor]:
        """`drawn`, the `window` and the state of the `random` generator: as bytes of JSON, and for what is drawn last
        as it was before."""
        random = self._generator_state() if self._last is None else self._before_last
        return {"drawn": number(self.drawn), "window": self._places(), "random": random}

    def _generator_state(self) -> Tensor:
        content = json.dumps(self._random.bit_generator.state).encode()
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)


class ShuffleBuffer(ShuffledBatches):
    """The window held in memory, for streams: on the device on which activations come.

    Args:
        blocks: the stream, from the first activation that has not entered the window.
    """

    def __init__(self, blocks: Iterable[ActivationBlock], plan: ShufflePlan, state: State | None = None) -> None:
        super().__init__(plan, state)
        self._advance: Advance | None = None
        self._arrived = 0
        self._incoming = (block.activations for block in rechunk(self._counted(blocks), plan.batch_size))
        if state is None:
            self._window = torch.cat(self._filled())
        else:
            self._window = _saved_window(state, plan, torch.float32, dimensions=2)

    def _filled(self) -> list[TokenActivations]:
        """The first batches, as many as the window holds; shows how far it is, as they may take minutes."""
        total = self.plan.held * self.plan.batch_size
        with progress(total, "filling the shuffle window", first=FIRST_ESTIMATE) as advance:
            self._advance, self._arrived = advance, 0
            held = list(islice(self._incoming, self.plan.held))
        self._advance = None
        return held

    def _counted(self, blocks: Iterable[ActivationBlock]) -> Iterator[ActivationBlock]:
        """The same blocks; while the window fills they are counted as they come, before they are plan into batches."""
        for block in blocks:
            if self._advance:
                self._arrived += block.n
                total = self.plan.held * self.plan.batch_size
                self._advance(block.n, tokens=f"{min(self._arrived, total):,} of {total:,}")
            yield block

    @property
    def window(self) -> Float[Tensor, "S D"]:
        return self._window

    def _exchange(self, places: np.ndarray) -> Float[Tensor, "N D"]:
        batch = next(self._incoming)
        if self._window.device != batch.device:  # it was taken up from a file
            self._window = self._window.to(batch.device)
        slots = _to_device(places, batch.device)
        drawn = self._window[slots]
        self._window[slots] = batch
        return drawn

    def _at(self, places: np.ndarray) -> Float[Tensor, "N D"]:
        return self._window[_to_device(places, self._window.device)]

    def _places(self) -> Float[Tensor, "S D"] | Int[Tensor, " S"]:
        return self._window


class ShuffledFetches(ShuffledBatches):
    """The window as numbers of activations, for a store from which any can be fetched.

    Args:
        fetch: from numbers to activations.
    """

    def __init__(
        self, fetch: Callable[[Int[Tensor, " N"]], Float[Tensor, "N D"]], plan: ShufflePlan, state: State | None = None
    ) -> None:
        super().__init__(plan, state)
        self._fetch = fetch
        if state is None:
            self._numbers = np.arange(plan.held * plan.batch_size)
        else:
            self._numbers = _saved_window(state, plan, torch.int64, dimensions=1).numpy()
            if self._numbers.min() < 0 or self._numbers.max() >= plan.arrived(self.drawn):
                raise ValueError("a window of activations that have not come in yet")

    @property
    def window(self) -> Float[Tensor, "S D"]:
        return self._fetch(torch.from_numpy(self._numbers))

    def _exchange(self, places: np.ndarray) -> Float[Tensor, "N D"]:
        drawn, start = self._numbers[places], self.plan.arrived(self.drawn)
        self._numbers[places] = np.arange(start, start + len(places))
        return self._fetch(torch.from_numpy(drawn))

    def _at(self, places: np.ndarray) -> Float[Tensor, "N D"]:
        return self._fetch(torch.from_numpy(self._numbers[places]))

    def _places(self) -> Float[Tensor, "S D"] | Int[Tensor, " S"]:
        return torch.from_numpy(self._numbers)


def _to_device(places: np.ndarray, device: torch.device) -> Int[Tensor, " N"]:
    """Places as a tensor; the host does not wait until they are on a GPU."""
    numbers = torch.from_numpy(places)
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


def _saved_window(state: State, plan: ShufflePlan, dtype: torch.dtype, dimensions: int) -> Tensor:
    window = state["window"]
    if (window.dtype, window.dim(), len(window)) != (dtype, dimensions, plan.held * plan.batch_size):
        raise ValueError(f"a window of {window.dtype} {list(window.shape)}")
    return window
