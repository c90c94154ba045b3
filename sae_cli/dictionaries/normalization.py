"""Normalization of every token's activation by itself, as some dictionaries have it before their encoder.

    z = (x - μ) / (s + ε),    f = encode(z),    ŷ = s · decode(f) + μ

μ and s are of x alone. Biases and thresholds are in units of z, and so are the features.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from sae_cli.tensor_types import Float, Tensor

_EPSILON = 1e-5


class TokenScale(NamedTuple):
    """What one token's activation is centered by, and what its dictionary's output is multiplied by."""

    mean: Float[Tensor, "*N 1"]
    scale: Float[Tensor, "*N 1"]


class Normalization(Enum):
    """What μ, s and ε are.

    `layer_norm`: the mean and the standard deviation (with d - 1) of the token's d numbers, ε = 1e-5 (OpenAI's TopK
    dictionaries of GPT-2; `layer_norm` of SAELens). `rms_norm`: 0, ‖x‖/√d and ε = 0 (`constant_norm_rescale` of
    SAELens, `token-wise` of llamascopium).
    """

    layer_norm = "layer_norm"
    rms_norm = "rms_norm"

    @property
    def described(self) -> str:
        """For people, after "each token's activation is"."""
        if self is Normalization.layer_norm:
            return "centered and divided by its own mean and standard deviation (layer_norm)"
        return "divided by its own root mean square (rms_norm)"

    def of(self, x: Float[Tensor, "*N D"]) -> TokenScale:
        """μ and s of each token."""
        if self is Normalization.layer_norm:
            return TokenScale(x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True))
        norm = x.norm(dim=-1, keepdim=True)
        return TokenScale(x.new_zeros(norm.shape), norm / x.shape[-1] ** 0.5)

    def apply(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """z; a token whose numbers are all the same is 0."""
        mean, scale = self.of(x)
        if self is Normalization.layer_norm:
            return (x - mean) / (scale + _EPSILON)
        return x / scale.clamp_min(1e-30)

    def undo(self, y: Float[Tensor, "*N D"], x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """The output in the units of x."""
        mean, scale = self.of(x)
        return y * scale + mean
