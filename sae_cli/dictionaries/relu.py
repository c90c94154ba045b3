"""The ReLU dictionary, trained with an L1 penalty (Bricken et al. 2023)."""

from __future__ import annotations

from torch import Tensor

from sae_cli.dictionaries.base import Dictionary
from sae_cli.tensor_types import Float


class ReluDictionary(Dictionary):
    """f = ReLU(W_enc (x - b_dec) + b_enc),  x̂ = W_decᵀ f + b_dec."""

    architecture = "relu"

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        return ((x - self.b_dec) @ self.W_enc.T + self.b_enc).relu()
