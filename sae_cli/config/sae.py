"""The group `sae`: the dictionary's architecture. One schema an architecture.

How sparse a dictionary is follows from one top-level setting: `l1`, a penalty's coefficient, or `k`, a number of
active features.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from sae_cli.config.idle import Idle
from sae_cli.config.roles import number, setting


class DecoderNorm(Enum):
    """`unit`: decoder rows are kept at norm 1; `free`: the L1 term weighs each feature by its row's norm."""

    unit = "unit"
    free = "free"


class BiasInit(Enum):
    """What `b_dec` starts from, over the tokens that set the scale."""

    mean = "mean"
    geometric_median = "geometric_median"
    zero = "zero"


class JumpPenalty(Enum):
    """`l0_target`: (L0 / k - 1)²; `tanh`: l1 · Σ tanh(4 f)."""

    l0_target = "l0_target"
    tanh = "tanh"


class L1Units(Enum):
    """What an L1 coefficient belongs to: `scaled`: activations scaled to a mean norm of √d, squared errors summed over
    dimensions; `raw_sum`: activations as they are, squared errors summed; `raw_mean`: as they are, squared errors
    averaged over dimensions."""

    scaled = "scaled"
    raw_sum = "raw_sum"
    raw_mean = "raw_mean"


@dataclass(kw_only=True)
class SaeConfig:
    """What all architectures share.

    Attributes:
        decoder_norm: whether decoder rows are of length 1.
        b_dec_init: what `b_dec` begins with.
        decoder_cosine_floor: the cosine with its first, random direction that no decoder row falls below ("softly
            frozen", Korznikov et al. 2026, arXiv 2602.14111); null for none.
    """

    architecture: str
    decoder_norm: DecoderNorm = DecoderNorm.unit
    b_dec_init: BiasInit = BiasInit.mean
    decoder_cosine_floor: float | None = number(None, above=0, below=1, added=True)

    def sparsity_setting(self) -> str:
        """The top-level setting that this dictionary's sparsity follows from."""
        return "k"

    def idle_with(self, l1: float) -> Iterator[Idle]:
        """Its settings without effect, and what has none beside it."""
        return iter(())

    def penalty_rise(self) -> float:
        """Share of the steps over which its penalty rises from 0."""
        return 0.0

    def final_fit(self) -> float:
        """Share of the steps, at the end, in which the decoder alone is trained, on frozen codes."""
        return 0.0

    def contradictions(self, dict_size: int) -> Iterator[str]:
        """What speaks against it with so many features."""
        return iter(())


@dataclass(kw_only=True)
class ReluSae(SaeConfig):
    """ReLU with an L1 penalty (Bricken et al. 2023).

    Attributes:
        l1_units: the loss that `l1` is a coefficient of.
        sparsity_warmup: share of the steps over which the L1 coefficient rises from 0; a long rise lets features
            find a direction before they are pressed to be rare, and few die.
        decoder_fit: share of the steps, at the end, in which the encoder is frozen, the penalty off and the
            decoder fitted to the codes: undoes the shrinkage that L1 causes and leaves L0 as it is.
    """

    architecture: str = "relu"
    l1_units: L1Units = setting(L1Units.scaled, added=True)
    sparsity_warmup: float = number(0.8, at_least=0, at_most=1)
    decoder_fit: float = number(0.15, at_least=0, below=1)

    def sparsity_setting(self) -> str:
        return "l1"

    def idle_with(self, l1: float) -> Iterator[Idle]:
        return _idle_warmup(l1)

    def penalty_rise(self) -> float:
        return self.sparsity_warmup

    def final_fit(self) -> float:
        return self.decoder_fit


@dataclass(kw_only=True)
class GatedSae(SaeConfig):
    """Separate gate and magnitude (Rajamanoharan et al. 2024).

    Attributes:
        l1_units: the loss that `l1` is a coefficient of.
        sparsity_warmup: share of the steps over which the L1 coefficient rises from 0.
    """

    architecture: str = "gated"
    l1_units: L1Units = setting(L1Units.scaled, added=True)
    sparsity_warmup: float = number(0.2, at_least=0, at_most=1)

    def penalty_rise(self) -> float:
        return self.sparsity_warmup

    def sparsity_setting(self) -> str:
        return "l1"

    def idle_with(self, l1: float) -> Iterator[Idle]:
        return _idle_warmup(l1)


@dataclass(kw_only=True)
class JumpReluSae(SaeConfig):
    """A trained threshold a feature (Rajamanoharan et al. 2024).

    The defaults are for runs of about a million tokens: thresholds that begin low, or a strong penalty, leave features
    where they started. The paper's, for billions, are l0_coefficient=1, bandwidth=.001, threshold=.001 and a short
    warm-up. Rows of the decoder are free: no penalty weighs them, and features come to the truth sooner.

    Attributes:
        penalty: what keeps L0 down.
        l0_coefficient: weight of `l0_target`, in units of the mean squared norm of activations.
        bandwidth: width of the straight-through estimator, in units of the mean norm of activations.
        threshold: first threshold, in the same units.
        threshold_lr: peak learning rate of the logarithms of thresholds, on the schedule of `train.lr`: Adam moves them
            by about as much a step, and what others' `train.lr` of 3e-4 is good for takes 23,000 steps from .001 to 1.
        sparsity_warmup: share of the steps over which the penalty rises from 0.
    """

    architecture: str = "jump_relu"
    penalty: JumpPenalty = JumpPenalty.l0_target
    decoder_norm: DecoderNorm = DecoderNorm.free
    l0_coefficient: float = number(0.03, at_least=0)
    bandwidth: float = number(0.03, above=0)
    threshold: float = number(0.05, above=0)
    threshold_lr: float = number(5.6e-3, above=0)
    sparsity_warmup: float = number(1.0, at_least=0, at_most=1)

    def penalty_rise(self) -> float:
        return self.sparsity_warmup

    def sparsity_setting(self) -> str:
        return "k" if self.penalty is JumpPenalty.l0_target else "l1"

    def idle_with(self, l1: float) -> Iterator[Idle]:
        if self.penalty is JumpPenalty.tanh:
            yield Idle("sae.l0_coefficient", "with sae.penalty=tanh", "give l1=")
        elif not self.l0_coefficient:
            yield Idle("k", "with sae.l0_coefficient=0", "leave it out")
            yield Idle("sae.sparsity_warmup", "with sae.l0_coefficient=0", "leave it out")


@dataclass(kw_only=True)
class TopKSae(SaeConfig):
    """The k largest pre-activations of each token (Gao et al. 2024).

    Attributes:
        aux_coefficient: weight of the auxiliary loss that revives dead features.
        aux_k: dead features that it uses for each token; null for half the width of the activations.
    """

    architecture: str = "topk"
    aux_coefficient: float = number(1 / 32, at_least=0)
    aux_k: int | None = number(None, at_least=0)

    def idle_with(self, l1: float) -> Iterator[Idle]:
        if not self.aux_coefficient:
            yield Idle("sae.aux_k", "with sae.aux_coefficient=0", "leave it out")
        elif self.aux_k == 0:
            yield Idle("sae.aux_k", "at 0", "give sae.aux_coefficient=0 for no auxiliary loss")


@dataclass(kw_only=True)
class BatchTopKSae(TopKSae):
    """The N·k largest pre-activations of a batch of N tokens (Bussmann et al. 2024)."""

    architecture: str = "batch_topk"


@dataclass(kw_only=True)
class MatryoshkaSae(TopKSae):
    """BatchTopK with nested dictionaries (Bussmann et al. 2025).

    Attributes:
        fractions: share of the features that each dictionary has more than the one before.
    """

    architecture: str = "matryoshka"
    fractions: list[float] = field(default_factory=lambda: [1 / 32, 1 / 16, 1 / 8, 1 / 4, 17 / 32])

    def __post_init__(self) -> None:
        if not self.fractions or min(self.fractions) <= 0 or abs(sum(self.fractions) - 1) > 1e-6:
            raise ValueError(f"sae.fractions={list(self.fractions)}: expected positive numbers that sum to 1")

    def contradictions(self, dict_size: int) -> Iterator[str]:
        if min(sizes := group_sizes(self.fractions, dict_size)) < 1:
            yield f"sae.fractions={list(self.fractions)}: too fine for dict_size={dict_size}: groups of {sizes}"


def _idle_warmup(l1: float) -> Iterator[Idle]:
    if not l1:
        yield Idle("sae.sparsity_warmup", "with l1=0", "leave it out")


def group_sizes(fractions: list[float], dict_size: int) -> list[int]:
    """Whole numbers of features in these proportions; what rounding leaves goes to the last group."""
    sizes = [round(fraction * dict_size) for fraction in fractions[:-1]]
    return [*sizes, dict_size - sum(sizes)]


SAE_SCHEMAS = {
    "relu": ReluSae,
    "topk": TopKSae,
    "batch_topk": BatchTopKSae,
    "jump_relu": JumpReluSae,
    "gated": GatedSae,
    "matryoshka": MatryoshkaSae,
}
"""By the name of the architecture, which is also that of its file in `dictionaries/`."""
