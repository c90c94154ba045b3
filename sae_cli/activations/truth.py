"""Activations with a known ground truth: which directions there are, and which of them fire on each token."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import count
from typing import ClassVar, NamedTuple

import torch

from sae_cli.activations.blocks import ActivationBlock, drop
from sae_cli.config.split import Split
from sae_cli.seeds import generator
from sae_cli.tensor_types import Bool, Float, Tensor


class CodedBlock(NamedTuple):
    """Activations, and the features that made them.

    Attributes:
        block: the activations.
        fires: whether each true feature fires on each token [n, n_features].
    """

    block: ActivationBlock
    fires: Bool[Tensor, "N F"]


class TruthActivations(ABC):
    """Sums of known directions.

    Attributes:
        d: width of the activations.
        n_features: how many directions there are.
        seed: of everything that is drawn.
        size: tokens of a block; each block has random numbers of its own, so that reading may begin at any.
    """

    d: int
    n_features: int
    seed: int
    size: ClassVar[int] = 4096

    @abstractmethod
    def directions(self) -> Float[Tensor, "F D"]:
        """The truth: unit rows [n_features, d]."""

    @abstractmethod
    def frequencies(self) -> Float[Tensor, " F"]:
        """The share of tokens on which each feature fires, float64 [n_features]."""

    @abstractmethod
    def coded(self, numbers: torch.Generator) -> tuple[Float[Tensor, "N D"], Bool[Tensor, "N F"]]:
        """The activations of one block, and which features fire.

        Args:
            numbers: the block's own.
        """

    def blocks(self, split: Split, first: int = 0) -> Iterator[ActivationBlock]:
        """Blocks of up to `size` activations without end, from activation `first` on; the two splits are disjoint
        random streams."""
        found = (each.block for each in self.coded_blocks(split, first // self.size))
        return drop(found, first % self.size)

    def coded_blocks(self, split: Split, first: int = 0) -> Iterator[CodedBlock]:
        """The same whole, with their codes, from block `first` on."""
        for index in count(first):
            activations, fires = self.coded(generator(self.stream, self.seed, split.value, index))
            position = torch.arange(index * self.size, (index + 1) * self.size)
            nothing = torch.zeros(self.size, dtype=torch.int64)
            yield CodedBlock(ActivationBlock(activations, nothing, position, nothing), fires)

    @property
    def stream(self) -> str:
        """The name of its random numbers."""
        return "synthetic activations"


def tight_frame(rows: Float[Tensor, "F D"], steps: int = 6) -> Float[Tensor, "F D"]:
    """Unit rows as far from each other as there can be, in the mean of the squares of their cosines.

    Up to as many as there are dimensions they become orthogonal; more of them a tight frame, which has the least sum of
    squared cosines of all unit rows (Benedetto & Fickus 2003). Whitening and scaling to length 1 take turns.
    """
    rows = rows.double()
    wide = len(rows) > rows.shape[1]
    for _ in range(steps):
        rows = rows / rows.norm(dim=1, keepdim=True)
        values, vectors = torch.linalg.eigh(rows.T @ rows if wide else rows @ rows.T)
        root = vectors @ (vectors / values.clamp_min(1e-12).sqrt()).T
        rows = rows @ root if wide else root @ rows
    return (rows / rows.norm(dim=1, keepdim=True)).float()
