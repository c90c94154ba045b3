"""How well the activations of each row of text are reconstructed: from which FVU and L0 have their errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from sae_cli.metrics.code_length import CodeBook
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.row_sums import RowPlaces, RowSums, SumsOfRows
from sae_cli.tensor_types import Float, Int, Tensor


class EncodedRows(NamedTuple):
    """Activations of rows of text, the number of each one's row among these [N], and which rows these are."""

    encoded: Encoded
    row: Int[Tensor, " N"]
    places: RowPlaces


class ReconstructionRows:
    """For each row of text: its positions, features that fire, Σ‖x - x̂‖² and Σ‖x - x̄‖², x̄ the mean over all rows.

    Args:
        origin: any vector near the mean of x [D]; sums are relative to it, so that they lose no digits.
        book: what the code takes; without it bits are not summed.
    """

    def __init__(self, origin: Float[Tensor, " D"], book: CodeBook | None = None) -> None:
        self.origin, self.book = origin, book
        self._sums = RowSums(("positions", "active", "squared_error", "second", *(["bits"] if book else [])))
        self._first: list[Tensor] = [torch.zeros(0, len(origin), dtype=torch.float64)]

    def add(self, seen: EncodedRows) -> None:
        """Add rows."""
        x, reconstruction = (each.double() for each in (seen.encoded.target, seen.encoded.reconstruction))
        shifted = x - self.origin.double()
        columns = (
            torch.ones(len(x), device=x.device),
            (seen.encoded.f > 0).sum(dim=1),
            (x - reconstruction).square().sum(dim=1),
            shifted.square().sum(dim=1),
            *([self.book.bits(seen.encoded).to(x.device)] if self.book else []),
        )
        of_tokens = torch.stack([each.double() for each in columns], dim=1)
        self._sums.add(SumsOfRows(_by_row(of_tokens, seen), seen.places))
        self._first.append(_by_row(shifted, seen))

    def merge(self, other: ReconstructionRows) -> ReconstructionRows:
        """The rows of both parts; the origins must be the same."""
        assert bool((self.origin == other.origin).all())
        merged = ReconstructionRows(self.origin, self.book)
        merged._sums, merged._first = self._sums.merge(other._sums), [*self._first, *other._first]
        return merged

    def results(self) -> RowSums:
        """The sums by row: `positions`, `active`, `squared_error`, `variance` and, with a book, `bits`."""
        first = torch.cat(self._first)
        positions, active, squared_error, second, *bits = (self._sums.column(name) for name in self._sums.columns)
        mean = first.sum(dim=0) / positions.sum()
        variance = second - 2 * first @ mean + positions * mean.square().sum()
        return RowSums.of(
            self._sums.places,
            positions=positions,
            active=active,
            squared_error=squared_error,
            variance=variance,
            **({"bits": bits[0]} if bits else {}),
        )


def _by_row(values: Float[Tensor, "N C"], seen: EncodedRows) -> Float[Tensor, "B C"]:
    """The sums over the tokens of each row."""
    sums = values.new_zeros(len(seen.places.document), values.shape[1])
    return sums.index_add_(0, seen.row.to(values.device), values).cpu()


def fvu(s: Mapping[str, Tensor]) -> Tensor:
    """Σ‖x - x̂‖² / Σ‖x - x̄‖²."""
    return s["squared_error"] / s["variance"]


def bits(s: Mapping[str, Tensor]) -> Tensor:
    """Bits that the code takes, a token."""
    return s["bits"] / s["positions"]


def l0(s: Mapping[str, Tensor]) -> Tensor:
    """Features that fire, a token."""
    return s["active"] / s["positions"]
