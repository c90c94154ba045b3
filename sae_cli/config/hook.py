"""Hook points: where in a decoder block activations are read and replaced."""

from dataclasses import dataclass
from enum import Enum


class HookPoint(Enum):
    """What is autoencoded at block `layer` (see `sae_cli.models.hooks`)."""

    mlp_act = "mlp_act"
    """Input of the MLP's down-projection, after the nonlinearity and the gate; width d_mlp."""
    mlp_out = "mlp_out"
    """The MLP's update to the residual stream (after a post-norm where there is one); width d_model."""
    attn_out = "attn_out"
    """The attention's update to the residual stream; width d_model."""
    resid = "resid"
    """The residual stream after the block; layer -1 is the input of block 0; width d_model."""


@dataclass(kw_only=True)
class HookConfig:
    """The group `hook`."""

    point: HookPoint
