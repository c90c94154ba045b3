"""Similarity of two sets of directions."""

from __future__ import annotations

import torch

from sae_cli.tensor_types import Float, Tensor


def max_cosine_similarity(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"], chunk: int = 4096) -> Float[Tensor, " A"]:
    """For each row of a, the largest cosine with any row of b; in chunks, so that A·B is never held.

    The mean of it is MMCS(a → b) (Sharkey, Braun & Millidge 2022).
    """
    a, b = (rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12) for rows in (a.float(), b.float()))
    return torch.cat([(part @ b.T).amax(dim=1) for part in a.split(chunk)])
