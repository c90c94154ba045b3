"""What decoder rows look like, over neurons and to the rest of the network."""

from __future__ import annotations

import torch

from sae_cli.tensor_types import Float, Tensor


def kurtosis(rows: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """E[(x - x̄)⁴] / E[(x - x̄)²]² of the entries of each row: 3 for Gaussian ones, D for a single one that is not 0."""
    centered = rows.double() - rows.double().mean(dim=1, keepdim=True)
    square = centered.square().mean(dim=1)
    return (centered.pow(4).mean(dim=1) / square.square().clamp_min(1e-300)).float()


def skew(rows: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """E[(x - x̄)³] / E[(x - x̄)²]^1.5 of the entries of each row: 0 for symmetric ones."""
    centered = rows.double() - rows.double().mean(dim=1, keepdim=True)
    square = centered.square().mean(dim=1)
    return (centered.pow(3).mean(dim=1) / square.pow(1.5).clamp_min(1e-300)).float()


def participation_ratio(rows: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """(Σ x²)² / Σ x⁴ of each row: how many entries share its length, 1 to D."""
    square = rows.double().square()
    return (square.sum(dim=1).square() / square.square().sum(dim=1).clamp_min(1e-300)).float()


class NullSpace:
    """The part of activation space that a linear map does not see.

    Args:
        map: rows are what each activation dimension is mapped to [M, D], as in x @ map.
    """

    def __init__(self, map: Float[Tensor, "M D"]) -> None:
        left, singular, _ = torch.linalg.svd(map.double(), full_matrices=False)
        self._range = left[:, singular > singular.max() * max(map.shape) * torch.finfo(torch.float32).eps]

    @property
    def floor(self) -> float:
        """The share that a random direction has in it on average: 1 - rank / M."""
        return 1 - self._range.shape[1] / self._range.shape[0]

    def share(self, rows: Float[Tensor, "N M"]) -> Float[Tensor, " N"]:
        """‖(I - P) x‖² / ‖x‖² of each row, P the projector onto what is seen."""
        rows = rows.double()
        rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
        return (rows - rows @ self._range @ self._range.T).square().sum(dim=1).float()

    def projector(self) -> Float[Tensor, "M M"]:
        """I - P, float64: its own Gram matrix."""
        return torch.eye(len(self._range), dtype=torch.float64, device=self._range.device) - self._range @ self._range.T
