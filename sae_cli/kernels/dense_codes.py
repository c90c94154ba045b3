"""Feature activations of a batch as a whole matrix, for batches in which many features are active."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Bool, Float, Int, Tensor


@dataclass(frozen=True)
class DenseCodes(Codes):
    """Codes that have a place for each of the N·F numbers of the matrix, row after row, `chosen` [E] or not.

    What is not chosen counts for nothing in any sum. No method waits for the device.
    """

    chosen: Bool[Tensor, " E"]

    @classmethod
    def of(cls, values: Float[Tensor, "N F"], chosen: Bool[Tensor, "N F"]) -> DenseCodes:
        """The chosen numbers of a matrix."""
        n, features = values.shape
        starts = torch.arange(n + 1, device=values.device) * features
        columns = torch.zeros(1, dtype=torch.int32, device=values.device).expand(n * features)  # nothing asks for them
        return cls(starts, columns, values.reshape(-1), features, chosen.reshape(-1))

    @property
    def number(self) -> Int[Tensor, ""]:
        return self.chosen.sum()

    def of_features(self, vector: Float[Tensor, " F"]) -> Float[Tensor, " E"]:
        return vector.expand(self.n_rows, -1).reshape(-1)

    def smallest(self) -> Float[Tensor, ""]:
        return self.values.masked_fill(~self.chosen, torch.inf).amin()

    def between(self, start: int, stop: int) -> tuple[Codes, Bool[Tensor, " E"]]:
        columns = torch.arange(self.n_features, device=self.values.device)
        within = ((columns >= start) & (columns < stop)).expand(self.n_rows, -1).reshape(-1)
        values, chosen = (self._matrix(each)[:, start:stop] for each in (self.values, self.chosen))
        return DenseCodes.of(values, chosen), within

    def column_sums(self, values: Float[Tensor, " E"]) -> Float[Tensor, " F"]:
        return self.to_dense(values).sum(dim=0, dtype=torch.float64).to(values.dtype)

    def counts(self, values: Float[Tensor, " E"] | None = None) -> Int[Tensor, " F"]:
        return self._matrix(self.chosen if values is None else self.chosen & (values > 0)).sum(dim=0)

    def keep(self, chosen: Bool[Tensor, " E"]) -> Codes:
        return replace(self, chosen=self.chosen & chosen)

    def to_dense(self, values: Float[Tensor, " E"]) -> Float[Tensor, "N F"]:
        return self._matrix(values.masked_fill(~self.chosen, 0))

    def from_dense(self, dense: Float[Tensor, "N F"]) -> Float[Tensor, " E"]:
        return dense.reshape(-1)

    def _matrix(self, entries: Tensor) -> Tensor:
        return entries.view(self.n_rows, self.n_features)
