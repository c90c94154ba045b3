"""The group `resample`: dead features that begin again during training."""

from dataclasses import dataclass, field, fields
from enum import Enum

from sae_cli.config.roles import number, setting


class ResampleRule(Enum):
    """How dead features begin again.

    `bricken2023`: "Towards Monosemanticity", appendix on neuron resampling. `marks2023`: the code of
    saprmarks/dictionary_learning of December 2023. `local`: features that fire as often as the median live one, some at
    a time, each with a learning rate of its own that rises from 0.
    """

    bricken2023 = "bricken2023"
    marks2023 = "marks2023"
    local = "local"


class ResampledEncoder(Enum):
    """A resampled feature's encoder row: `input`: the direction of the input that was drawn for it, at .2 of the mean
    norm of rows that are alive (Bricken et al. 2023); `mean_alive`: .2 times the mean of those rows (Marks 2023)."""

    input = "input"
    mean_alive = "mean_alive"


SHARE = 0.05
"""Of the features that begin again at a time by the rule `local`."""


@dataclass(kw_only=True)
class ResampleConfig:
    """Resampling of dead features.

    A feature is dead when it has not fired for `train.dead_after` tokens; by the rule `marks2023` with `every`, when it
    has not fired in the second half of a period.

    Attributes:
        rule: how they begin again.
        at: steps after which it is done; none by default. All are in the main phase of training.
        every: steps between two of them, besides those of `at`; null for none.
        encoder: what the encoder row of a resampled feature is; null for what the rule says.
        share: by the rule `local`, share of the features that begin again at a time; others wait for the next.
        inputs: how many of the most recent inputs losses are computed on; null for the last batch.
        rewarm_steps: steps over which the learning rate rises again from 0 afterwards: of all features, or by the rule
            `local` of those that have begun again.
        exempt_fraction: share of the features, drawn at random once, that are never resampled.
    """

    rule: ResampleRule = setting(ResampleRule.bricken2023, added=True)
    at: list[int] = field(default_factory=list)
    every: int | None = number(None, at_least=1, added=True)
    encoder: ResampledEncoder | None = setting(None, added=True)
    share: float = number(SHARE, above=0, at_most=1, added=True)
    inputs: int | None = number(16_384, at_least=1, at_most=2**24)
    rewarm_steps: int = number(100, at_least=0)
    exempt_fraction: float = number(0.0, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        self.at = sorted(set(self.at))
        others = [each for each in fields(self) if each.name not in ("at", "every")]
        changed = [f"resample.{each.name}" for each in others if getattr(self, each.name) != each.default]
        if changed and not self.is_on:
            have = "has" if len(changed) == 1 else "have"
            names = " and ".join(changed)
            raise ValueError(f"{names} {have} no effect without resample.at=: give it, or resample.every=")
        if self.share != SHARE and self.rule is not ResampleRule.local:
            raise ValueError(f"resample.share={self.share:g} has no effect without resample.rule=local: give it")

    @property
    def is_on(self) -> bool:
        """Whether any feature may begin again."""
        return bool(self.at) or self.every is not None

    @property
    def asked(self) -> str:
        """What was asked for, as it is typed."""
        return f"resample.at={self.at}" if self.at else f"resample.every={self.every}"
