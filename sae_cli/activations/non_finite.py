"""Activations that are NaN or infinite: found cheaply, named exactly, and refused or left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.config.data import NonFinite
from sae_cli.errors import JobError
from sae_cli.tensor_types import Bool, Float, Int, Tensor

LEAVE_OUT = "look at the model's weights and model.dtype, or leave such activations out with non_finite=drop"
ELSEWHERE = "look at the model's weights and model.dtype, or measure on other text with data="

_SHOWN = 3


def is_finite(x: Float[Tensor, "*_"]) -> bool:
    """Whether every number is finite: the sum tells, unless it has overflowed, and then each is looked at."""
    return bool(x.sum(dtype=torch.float32 if x.itemsize < 4 else None).isfinite()) or bool(x.isfinite().all())


def broken_rows(x: Float[Tensor, "N D"]) -> Int[Tensor, " K"]:
    """The rows that hold a number that is not finite, ascending."""
    return (~x.isfinite().all(dim=1)).nonzero()[:, 0]


def usable_rows(x: Float[Tensor, "N D"], policy: NonFinite) -> Float[Tensor, "N2 D"]:
    """What is trained on: with `drop` the finite rows, else x, which has been looked at where its origin was known.

    Raises:
        JobError: no row is finite.
    """
    if policy is not NonFinite.drop or is_finite(x):
        return x
    kept = x[x.isfinite().all(dim=1)]
    if not len(kept):
        raise JobError(
            f"expected some finite activations, found none among {len(x):,} in a row: with non_finite=drop nothing is "
            "left; look at the model's weights and model.dtype"
        )
    return kept


def finite_block(block: ActivationBlock, where: str, policy: NonFinite) -> ActivationBlock:
    """The block, without activations that are not finite where the policy is `drop`.

    Raises:
        JobError: with `raise`, there are such; with `drop`, there are no others.
    """
    if is_finite(block.activations):
        return block
    if policy is NonFinite.drop:
        usable_rows(block.activations, policy)
        return block.select(block.activations.isfinite().all(dim=1))
    raise refusal(where, block, LEAVE_OUT)


def refused(blocks: Iterable[ActivationBlock], where: str, remedy: str) -> Iterator[ActivationBlock]:
    """The same blocks.

    Raises:
        JobError: one of them holds a number that is not finite.
    """
    for block in blocks:
        if not is_finite(block.activations):
            raise refusal(where, block, remedy)
        yield block


def refusal(where: str, block: ActivationBlock, remedy: str, row: str = "", called: str = "document") -> JobError:
    """The one line that names the activations of a block that are not finite.

    Args:
        where: what the block is a part of.
        block: that holds such.
        remedy: what to do.
        row: what a row's number in the block is called; empty where it says nothing.
        called: what `document` counts.
    """
    broken = broken_rows(block.activations)
    first = [_origin(block, int(number), row, called) for number in broken[:_SHOWN]]
    shown = "; ".join(first + ["…"] * (len(broken) > _SHOWN))
    return JobError(
        f"{where}: expected finite activations, found NaN or infinity in {len(broken):,} of {block.n:,}: "
        f"{shown}: {remedy}"
    )


def check_positions(
    x: Float[Tensor, "B T D"], tokens: Int[Tensor, "B T"], counted: Bool[Tensor, "B T"], where: str
) -> None:
    """See that the activations at the counted positions are finite.

    Raises:
        JobError: one is not.
    """
    if is_finite(of_counted := x[counted]):
        return
    row, position = counted.cpu().nonzero().T
    block = ActivationBlock(of_counted.cpu(), tokens.cpu()[row, position], position, document=row)
    raise refusal(where, block, ELSEWHERE, called="row of text")


def _origin(block: ActivationBlock, number: int, row: str, called: str) -> str:
    document, position, token = (int(each[number]) for each in (block.document, block.position, block.tokens))
    return f"{f'{row} {number}, ' if row else ''}{called} {document}, position {position}, token {token}"
