"""Centred logits in d_model coordinates.

Logits have the width of the vocabulary, but those that a model can make lie in a space of at most d_model
dimensions: W z, W the unembedding times the final norm's gain and z the normalized residual stream. Softmax
ignores a constant, so W_c = (I - 11ᵀ/V) W. With S = (W_cᵀ W_c)^½ we have ‖S z‖ = ‖W_c z‖ for every z: squared
errors, norms and cosines of y = S z are those of the centered logits. The symmetric root is the one that is
unique: coordinates do not depend on the machine that made them.
"""

from __future__ import annotations

import torch

from sae_cli.models.final_norm import at_least_float32
from sae_cli.models.parts import ModelParts
from sae_cli.tensor_types import Float, Tensor

LOGIT_ROOT = "logit_root"
"""The name of S in files, float32 [D, D]."""
_ROWS_AT_ONCE = 16_384


class LogitSpace:
    """The coordinates of one model.

    Attributes:
        W: from the normalized residual stream to the logits, their constant part left out (V, D).
        S: to coordinates, symmetric (D, D), float64.
        S_inverse: its pseudo-inverse (D, D), float64; W_c @ S_inverse has orthonormal columns, as many as S has rank.
    """

    def __init__(self, parts: ModelParts) -> None:
        self.W = at_least_float32(parts.W_U() * parts.final_norm_gain())
        values, vectors = torch.linalg.eigh(self._gram())
        root = values.clamp_min(0).sqrt()
        # Singular values of float32 weights: what is below is rounding.
        seen = root > root.max() * len(root) * torch.finfo(torch.float32).eps
        inverse = torch.where(seen, 1 / root, 0.0)
        self.S = vectors * root @ vectors.T
        self.S_inverse = vectors * inverse @ vectors.T

    def coordinates(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """S z, in the number format of z."""
        return z @ self.S.to(z.dtype)

    def normalized(self, y: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """S⁺ y: the shortest z whose coordinates come nearest to y."""
        return y @ self.S_inverse.to(y.dtype)

    def _gram(self) -> Float[Tensor, "D D"]:
        """W_cᵀ W_c in float64, a part of the vocabulary at a time."""
        mean = self.W.mean(dim=0, dtype=torch.float64)
        gram = mean.new_zeros(len(mean), len(mean))
        for part in self.W.split(_ROWS_AT_ONCE):
            centered = part.double() - mean
            gram.addmm_(centered.T, centered)
        return gram
