"""What all activations with a known truth have in common: directions, how often each fires, and the true codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count

import torch

from sae_cli.activations.blocks import ActivationBlock, drop
from sae_cli.config.split import Split
from sae_cli.kernels.codes import Codes
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Tensor

BLOCK = 4096
"""Activations that are made at once."""


@dataclass(frozen=True)
class CodedBlock:
    """Activations, and the true features that they are made of, row by row.

    Attributes:
        block: the activations.
        codes: the true features; its rows are those of the block.
    """

    block: ActivationBlock
    codes: Codes


@dataclass(frozen=True)
class Truth(ABC):
    """Activations whose features are known: sparse non-negative sums of known unit directions.

    Attributes:
        d: width of the activations.
        seed: of the truth and of both streams.
    """

    d: int
    seed: int

    @abstractmethod
    def directions(self) -> Float[Tensor, "A D"]:
        """The truth: unit rows [number of true features, d]. Not to be written to."""

    @abstractmethod
    def frequencies(self) -> Float[Tensor, " A"]:
        """The probability that each true feature fires on a token, float64: as its law says, or, where features depend
        on each other in a way that has no closed form, as counted on tokens of a stream of its own."""

    @abstractmethod
    def coded_block(self, split: Split, number: int) -> CodedBlock:
        """Block `number` of a split, with `BLOCK` activations: a function of these two and of the truth."""

    def blocks(self, split: Split, first: int = 0) -> Iterator[ActivationBlock]:
        """Blocks of up to 4,096 activations without end, from number `first` on; the two splits are disjoint random
        streams."""
        numbers = count(first // BLOCK)
        return drop((self.coded_block(split, number).block for number in numbers), first % BLOCK)

    def coded_blocks(self, split: Split, n: int) -> Iterator[CodedBlock]:
        """The first n activations of a split with their true features, in blocks."""
        for number in range(-(-n // BLOCK)):
            coded = self.coded_block(split, number)
            kept = min(BLOCK, n - number * BLOCK)
            yield CodedBlock(coded.block.select(slice(kept)), coded.codes.rows_between(0, kept))


def block_of(activations: Float[Tensor, "N D"], number: int) -> ActivationBlock:
    """Block `number` of activations that belong to no text: of token 0 of document 0, placed by their number."""
    nothing = torch.zeros(BLOCK, dtype=torch.int64)
    position = torch.arange(number * BLOCK, (number + 1) * BLOCK)
    return ActivationBlock(activations, tokens=nothing, position=position, document=nothing)


@lru_cache(maxsize=4)
def random_unit_rows(n: int, d: int, seed: int) -> Float[Tensor, "A D"]:
    """Isotropic random directions [n, d]. Not to be written to."""
    rows = torch.randn(n, d, generator=generator("true directions", seed))
    return rows / rows.norm(dim=1, keepdim=True)
