"""Hook points: where in a decoder block activations are read and replaced."""

from dataclasses import dataclass
from enum import Enum


class HookPoint(Enum):
    """What is autoencoded at block `layer` (see `sae_cli.models.targets`)."""

    mlp_act = "mlp_act"
    """Input of the MLP's down-projection, after the nonlinearity and the gate; width d_mlp."""
    mlp_out = "mlp_out"
    """The MLP's update to the residual stream (after a post-norm where there is one); width d_model."""
    attn_out = "attn_out"
    """The attention's update to the residual stream; width d_model."""
    resid = "resid"
    """The residual stream after the block; layer -1 is the input of block 0; width d_model."""
    logit_update = "logit_update"
    """The change of the logits that the MLP's update makes on the direct path; d_model coordinates."""
    logits = "logits"
    """The logits themselves, which belong to no layer; d_model coordinates."""


class LogitMode(Enum):
    """The change of logits by an update u, r_L the final residual stream and n the final norm without its affine part.

    `exact`: n(r_L) - n(r_L - u); `linear`: the norm's scale is frozen at that of r_L.
    """

    exact = "exact"
    linear = "linear"


@dataclass(kw_only=True)
class HookConfig:
    """The group `hook`."""

    point: HookPoint

    @property
    def has_layer(self) -> bool:
        return self.point is not HookPoint.logits


@dataclass(kw_only=True)
class LogitUpdateHook(HookConfig):
    """`hook=logit_update`."""

    mode: LogitMode = LogitMode.exact
