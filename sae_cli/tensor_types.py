"""Shapes of tensors in annotations: one legend of dimension letters, and names for the commonest shapes.

    B  rows of tokens in a batch
    T  tokens in a row (the context)
    N  tokens of a batch that are used: at most B*T, after the position mask
    D  width of the hook point, d_model for all but `mlp_act`; in maps between spaces, d_model
    M  d_mlp, the width of `mlp_act`
    F  features of a dictionary
    V  vocabulary
    L  layers

`_` stands for a width that may differ between the items of a mapping. Annotations are checked by beartype in
the tests only.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Activations",
    "Bool",
    "FeatureActivations",
    "Float",
    "Int",
    "Logits",
    "Rows",
    "SiteActivations",
    "Tensor",
    "TokenActivations",
]

Rows = Int[Tensor, "B T"]
Activations = Float[Tensor, "B T D"]
SiteActivations = Float[Tensor, "B T _"]
Logits = Float[Tensor, "B T V"]
TokenActivations = Float[Tensor, "N D"]
FeatureActivations = Float[Tensor, "N F"]
