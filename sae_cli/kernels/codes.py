"""Feature activations of a batch as a list of entries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from sae_cli.kernels import loops
from sae_cli.tensor_types import Float, Int, Tensor


@dataclass(frozen=True)
class Codes:
    """The entries of a sparse matrix [N, F] that are kept, row after row, in each row by column.

    Attributes:
        starts: where the entries of each row begin, and their number [N + 1].
        columns: the feature of each entry [E].
        values: the value of each entry [E]: a pre-activation, as the kernels return it.
        n_features: F.
    """

    starts: Int[Tensor, " N1"]
    columns: Int[Tensor, " E"]
    values: Float[Tensor, " E"]
    n_features: int

    @property
    def n_rows(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def rows(self) -> Int[Tensor, " E"]:
        """The row of each entry."""
        rows = torch.arange(self.n_rows, device=self.starts.device)
        return torch.repeat_interleave(rows, self.starts.diff(), output_size=len(self.columns))

    @cached_property
    def indices(self) -> Int[Tensor, " E"]:
        """`columns` in the type that torch indexes with."""
        return self.columns.long()

    @cached_property
    def by_column(self) -> tuple[Int[Tensor, " F1"], Int[Tensor, " E"], Int[Tensor, " E"]]:
        """The entries sorted by column, then row: where each column begins [F + 1], their numbers and rows [E]."""
        if self.columns.is_cuda:
            order = self.indices.argsort(stable=True)
            counts = torch.bincount(self.indices, minlength=self.n_features)
            return torch.nn.functional.pad(counts.cumsum(0), (1, 0)), order, self.rows[order]
        starts = torch.zeros(self.n_features + 1, dtype=torch.int64)
        order, rows = torch.empty_like(self.columns), torch.empty_like(self.columns)
        loops.column_order(*(each.numpy() for each in (self.starts, self.columns, starts, order, rows)))
        return starts, order, rows

    def column_sums(self, values: Float[Tensor, " E"]) -> Float[Tensor, " F"]:
        """For each feature, the sum over its entries, in float64 and rounded once."""
        sums = torch.bincount(self.indices, weights=values.double(), minlength=self.n_features)
        return sums.to(values.dtype)

    def counts(self, values: Float[Tensor, " E"] | None = None) -> Int[Tensor, " F"]:
        """For each feature, how many of its entries have a positive value.

        Args:
            values: of the entries, where they are others than the kernel's.
        """
        positive = (self.values if values is None else values) > 0
        if not positive.all():
            return torch.bincount(self.indices[positive], minlength=self.n_features)
        if "by_column" in vars(self):  # sorted already, so counted already
            return self.by_column[0].diff()
        return torch.bincount(self.indices, minlength=self.n_features)

    def keep(self, chosen: Tensor) -> Codes:
        """The entries that `chosen` [E] marks."""
        kept_before = torch.nn.functional.pad(chosen.cumsum(0), (1, 0))
        return Codes(kept_before[self.starts], self.columns[chosen], self.values[chosen], self.n_features)

    def to_dense(self, values: Float[Tensor, " E"]) -> Float[Tensor, "N F"]:
        """Values at the entries and zero elsewhere."""
        dense = values.new_zeros(self.n_rows, self.n_features)
        dense[self.rows, self.indices] = values
        return dense
