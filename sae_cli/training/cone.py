"""Decoder rows that stay near the directions that they begin with."""

from __future__ import annotations

import math

import torch

from sae_cli.tensor_types import Float, Tensor


class Cone:
    """Keeps each row within an angle of its first direction.

    A row that has left is put back on the cone's surface, on the side that it had gone to, with its length.

    Args:
        first: the directions, of norm 1 [F, D].
        floor: the cosine that none falls below.
    """

    def __init__(self, first: Float[Tensor, "F D"], floor: float) -> None:
        self._first, self._floor = first.clone(), floor

    def project_rows(self, rows: Float[Tensor, "F D"]) -> None:
        """Put back those that have left."""
        length = rows.norm(dim=1, keepdim=True)
        along = (rows * self._first).sum(dim=1, keepdim=True)
        outside = ((along < self._floor * length) & (length > 0)).squeeze(1)
        if not outside.any():
            return
        first, norm = self._first[outside], length[outside]
        aside = torch.nn.functional.normalize(rows[outside] - along[outside] * first, dim=1)
        rows[outside] = norm * (self._floor * first + math.sqrt(1 - self._floor**2) * aside)
