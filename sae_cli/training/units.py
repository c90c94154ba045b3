"""The units of an L1 coefficient: the loss that it belongs to, as others publish it, and that of training.

Training scales activations by s, so that their mean norm is √d, and sums squared errors over dimensions. Features grow
with the activations, so s² (‖y - ŷ‖² + l1 Σf), in activations as they are, is ‖s y - s ŷ‖² + (s l1) Σ(s f).
"""

from __future__ import annotations

from typing import NamedTuple

from sae_cli.config.sae import L1Units
from sae_cli.documents import Document


class LossUnits(NamedTuple):
    """From the loss that an L1 coefficient belongs to, to that of training.

    Attributes:
        l1: what the coefficient is multiplied by.
        loss: what the loss of training is divided by to be the other.
    """

    l1: float
    loss: float


def loss_units(units: L1Units, scale: float, width: int) -> LossUnits:
    """The factors for activations that are scaled by `scale` and are written in `width` dimensions."""
    match units:
        case L1Units.scaled:
            return LossUnits(1.0, 1.0)
        case L1Units.raw_sum:
            return LossUnits(scale, scale**2)
        case L1Units.raw_mean:
            return LossUnits(scale * width, scale**2 * width)


def in_training(l1: float, units: L1Units, scale: float, width: int) -> str:
    """The line that says what an L1 coefficient is in training."""
    factor = loss_units(units, scale, width).l1
    return (
        f"l1={l1:g} by sae.l1_units={units.value} is {l1 * factor:.6g} in training (times {factor:.6g}): activations "
        f"are multiplied by {scale:.6g}, squared errors summed over {width:,} dimensions"
    )


def l1_facts(l1: float, units: L1Units, factors: LossUnits) -> Document:
    """For the manifest, of a coefficient in units of its own: those, the factor, and what it is in training."""
    if units is L1Units.scaled:
        return {}
    return {"l1_units": units.value, "l1_factor": factors.l1, "l1_in_training": l1 * factors.l1}
