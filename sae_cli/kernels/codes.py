"""Feature activations of a batch as a list of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from sae_cli.kernels import loops
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_BLOCK = 64  # neighboring entries whose maximum is looked at first


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

    @staticmethod
    def of_dense(f: Float[Tensor, "N F"]) -> Codes:
        """The positive entries of a matrix, on the CPU."""
        f = f.float()
        if f.is_cuda:
            rows, columns = f.clamp_min(0).nonzero(as_tuple=True)
            counts, values = torch.bincount(rows, minlength=len(f)).cpu(), f[rows, columns].cpu()
            return Codes(torch.nn.functional.pad(counts.cumsum(0), (1, 0)), columns.int().cpu(), values, f.shape[1])
        counts = np.empty(len(f), np.int64)
        # As many entries as there can be: what is never written to takes no memory.
        room = np.empty(f.shape, np.int32), np.empty(f.shape, np.int32)
        loops.copy_positive(f.contiguous().view(torch.int32).numpy(), _BLOCK, *room, counts)
        starts = np.concatenate([[0], np.cumsum(counts)])
        columns, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.int32)
        loops.close_up(*room, starts, columns, values)
        values = torch.from_numpy(values).view(torch.float32)
        return Codes(torch.from_numpy(starts), torch.from_numpy(columns), values, f.shape[1])

    @staticmethod
    def join(parts: Sequence[Codes]) -> Codes:
        """The rows of several matrices of one width, one after the other."""
        ends = np.cumsum([0, *(len(part.columns) for part in parts)])
        return Codes(
            torch.cat([parts[0].starts[:1], *(p.starts[1:] + int(end) for p, end in zip(parts, ends, strict=False))]),
            torch.cat([part.columns for part in parts]),
            torch.cat([part.values for part in parts]),
            parts[0].n_features,
        )

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

    @property
    def number(self) -> Int[Tensor, ""]:
        """How many entries there are."""
        return self.starts[-1]

    def of_features(self, vector: Float[Tensor, " F"]) -> Float[Tensor, " E"]:
        """Of numbers of features, for each entry that of its feature."""
        return vector[self.indices]

    def smallest(self) -> Float[Tensor, ""]:
        """The least value of an entry; infinity where there is none."""
        return self.values.min() if len(self.values) else self.values.new_full((), torch.inf)

    def between(self, start: int, stop: int) -> tuple[Codes, Bool[Tensor, " E"]]:
        """The entries of the features from `start` to `stop`, as of a dictionary of those, and which they are."""
        chosen = (self.columns >= start) & (self.columns < stop)
        kept = self.keep(chosen)
        return replace(kept, columns=kept.columns - start, n_features=stop - start), chosen

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

    def keep(self, chosen: Bool[Tensor, " E"]) -> Codes:
        """The entries that `chosen` [E] marks."""
        kept_before = torch.nn.functional.pad(chosen.cumsum(0), (1, 0))
        return Codes(kept_before[self.starts], self.columns[chosen], self.values[chosen], self.n_features)

    def rows_between(self, start: int, stop: int) -> Codes:
        """Some rows that follow each other."""
        first, last = int(self.starts[start]), int(self.starts[stop])
        starts = self.starts[start : stop + 1] - first
        return Codes(starts, self.columns[first:last], self.values[first:last], self.n_features)

    def to_dense(self, values: Float[Tensor, " E"]) -> Float[Tensor, "N F"]:
        """Values at the entries and zero elsewhere."""
        dense = values.new_zeros(self.n_rows, self.n_features)
        dense[self.rows, self.indices] = values
        return dense

    def from_dense(self, dense: Float[Tensor, "N F"]) -> Float[Tensor, " E"]:
        """Of a matrix the numbers at the entries."""
        return dense[self.rows, self.indices]
