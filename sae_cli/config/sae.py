"""The group `sae`: the dictionary's architecture. One schema an architecture."""

from dataclasses import dataclass
from enum import Enum


class DecoderNorm(Enum):
    """`unit`: decoder rows are kept at norm 1; `free`: the L1 term weighs each feature by its row's norm."""

    unit = "unit"
    free = "free"


class BiasInit(Enum):
    """What `b_dec` starts from, over the tokens that set the scale."""

    mean = "mean"
    geometric_median = "geometric_median"
    zero = "zero"


@dataclass(kw_only=True)
class SaeConfig:
    """What all architectures share."""

    architecture: str
    decoder_norm: DecoderNorm = DecoderNorm.unit
    b_dec_init: BiasInit = BiasInit.mean


@dataclass(kw_only=True)
class ReluSae(SaeConfig):
    """ReLU with an L1 penalty (Bricken et al. 2023); its coefficient is the top-level `l1`."""

    architecture: str = "relu"
