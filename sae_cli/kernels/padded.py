"""Entries on a GPU whose number the host does not know."""

# Triton takes plain numbers for its compile-time constants, whatever their annotations say.
# pyright: reportArgumentType=false

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from sae_cli.kernels import triton_loops as loops
from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_BLOCK = 32  # entries of a column that a program adds at a time


@dataclass(frozen=True)
class PaddedCodes(Codes):
    """Codes with room for more entries: those from `number` on mean nothing, and nothing that is summed counts them.

    No method waits for the device.

    Attributes:
        entry_rows: the row of each entry [E].
    """

    entry_rows: Int[Tensor, " E"]

    @property
    def room(self) -> int:
        """For entries."""
        return len(self.columns)

    @cached_property
    def valid(self) -> Bool[Tensor, " E"]:
        """Which are entries."""
        return torch.arange(self.room, device=self.columns.device) < self.number

    @property
    def rows(self) -> Int[Tensor, " E"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.entry_rows

    def smallest(self) -> Float[Tensor, ""]:
        return self.values.masked_fill(~self.valid, torch.inf).amin() if self.room else super().smallest()

    def between(self, start: int, stop: int) -> tuple[Codes, Bool[Tensor, " E"]]:
        chosen = self.valid & (self.columns >= start) & (self.columns < stop)
        kept = self.keep(chosen)
        columns = torch.where(kept.valid, kept.columns - start, 0)
        return replace(kept, columns=columns, n_features=stop - start), chosen

    @cached_property
    def by_column(self) -> tuple[Int[Tensor, " F1"], Int[Tensor, " E"], Int[Tensor, " E"]]:
        keys = torch.where(self.valid, self.columns, self.n_features)
        columns, order = keys.sort(stable=True)
        ends = torch.arange(self.n_features + 1, device=keys.device, dtype=keys.dtype)
        return torch.searchsorted(columns, ends), order, self.entry_rows[order]

    def column_sums(self, values: Float[Tensor, " E"]) -> Float[Tensor, " F"]:
        sums = values.new_empty(self.n_features)
        starts, order, _ = self.by_column
        loops.column_sums[self.n_features,](starts, order, values.contiguous(), sums, sums, SUMS=True, BLOCK=_BLOCK)
        return sums

    def counts(self, values: Float[Tensor, " E"] | None = None) -> Int[Tensor, " F"]:
        starts, order, _ = self.by_column
        if values is None:  # all that a kernel returns are positive
            return starts.diff()
        counts = starts.new_empty(self.n_features)
        values = values.contiguous()
        loops.column_sums[self.n_features,](starts, order, values, counts, counts, SUMS=False, BLOCK=_BLOCK)
        return counts

    def keep(self, chosen: Bool[Tensor, " E"]) -> PaddedCodes:
        """The entries that `chosen` [E] marks, with as much room."""
        before = torch.nn.functional.pad((chosen & self.valid).cumsum(0), (1, 0))
        # Those that are not kept all go to one place past the others.
        to = torch.where(chosen & self.valid, before[:-1], self.room)
        columns, values, rows = (
            each.new_zeros(self.room + 1).scatter_(0, to, each)[:-1]
            for each in (self.columns, self.values, self.entry_rows)
        )
        return PaddedCodes(before[self.starts], columns, values, self.n_features, rows)

    def closed(self) -> Codes:
        """Without the room: waits for the device."""
        number = int(self.number)
        return Codes(self.starts, self.columns[:number], self.values[:number], self.n_features)

    def to_dense(self, values: Float[Tensor, " E"]) -> Float[Tensor, "N F"]:
        # Those that are no entries go past the last row.
        dense = values.new_zeros(self.n_rows * self.n_features + 1)
        at = self.entry_rows.long() * self.n_features + self.columns
        dense[torch.where(self.valid, at, len(dense) - 1)] = values
        return dense[:-1].view(self.n_rows, self.n_features)
