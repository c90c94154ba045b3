"""Activations on their way from the model to the dictionary: blocks, and the mask that makes them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

import torch

from sae_cli.tensor_types import Bool, Float, Int, Rows, SiteActivations, Tensor
from sae_cli.text.packing import TokenRows

FIRST_POSITION = 1
"""The mask: every position but the first of each row, where the BOS or whatever stands there is."""

Place = TypeVar("Place", bound=Hashable)


@dataclass(frozen=True)
class ActivationBlock:
    """n activations with their origin.

    Attributes:
        activations: float [n, d].
        tokens: int64 [n], the token at the position.
        position: int64 [n], the position in its row.
        document: int64 [n], the document's id (`sae_cli.text.documents.document_id`).
    """

    activations: Float[Tensor, "N D"]
    tokens: Int[Tensor, " N"]
    position: Int[Tensor, " N"]
    document: Int[Tensor, " N"]

    @property
    def n(self) -> int:
        return len(self.activations)

    def select(self, index: slice | Int[Tensor, " K"] | Bool[Tensor, " N"]) -> ActivationBlock:
        """The activations at these indices; a view for a slice. Each stays on its device."""

        def chosen(values: Tensor) -> Tensor:
            return values[index if isinstance(index, slice) else index.to(values.device)]

        return ActivationBlock(**{f.name: chosen(getattr(self, f.name)) for f in fields(self)})

    @staticmethod
    def join(blocks: list[ActivationBlock]) -> ActivationBlock:
        if len(blocks) == 1:
            return blocks[0]
        return ActivationBlock(
            **{f.name: torch.cat([getattr(block, f.name) for block in blocks]) for f in fields(ActivationBlock)}
        )


def live_blocks(
    rows: Iterable[TokenRows], capture: Callable[[Rows], Mapping[Place, SiteActivations]]
) -> Iterator[dict[Place, ActivationBlock]]:
    """For each block of rows and each place in the model: the activations at every position of the mask, row by row.

    Args:
        rows: blocks of token rows [B, T].
        capture: token ids [B, T] to activations [B, T, d] at some places.
    """
    for block in rows:
        tokens = torch.from_numpy(block.tokens)
        position = torch.arange(FIRST_POSITION, tokens.shape[1]).expand(len(tokens), -1).flatten()
        document = torch.from_numpy(block.document)[:, FIRST_POSITION:].flatten()
        captured = capture(tokens)
        tokens = tokens[:, FIRST_POSITION:].flatten()
        yield {
            place: ActivationBlock(activations[:, FIRST_POSITION:].flatten(0, 1), tokens, position, document)
            for place, activations in captured.items()
        }


def take(blocks: Iterable[ActivationBlock], n: int) -> Iterator[ActivationBlock]:
    """Blocks up to n activations in all; the last is cut."""
    for block in blocks:
        if n <= block.n:
            yield block.select(slice(n))
            return
        yield block
        n -= block.n


def drop(blocks: Iterable[ActivationBlock], n: int) -> Iterator[ActivationBlock]:
    """Blocks without the first n activations."""
    for block in blocks:
        if n < block.n:
            yield block.select(slice(n, None)) if n else block
        n = max(0, n - block.n)


def rechunk(blocks: Iterable[ActivationBlock], size: int) -> Iterator[ActivationBlock]:
    """The same activations in blocks of exactly `size`; what is left at the end is dropped."""
    held: list[ActivationBlock] = []
    n = 0
    for block in blocks:
        held.append(block)
        n += block.n
        if n >= size:
            joined, start = ActivationBlock.join(held), 0
            while n - start >= size:
                yield joined.select(slice(start, start + size))
                start += size
            held, n = [joined.select(slice(start, None))], n - start
