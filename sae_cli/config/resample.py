"""The group `resample`: dead features that begin again during training."""

from dataclasses import dataclass, field, fields

from sae_cli.config.roles import number


@dataclass(kw_only=True)
class ResampleConfig:
    """Resampling of dead features (Bricken et al. 2023, "Towards Monosemanticity", appendix on neuron resampling).

    A feature is dead when it has not fired for `train.dead_after` tokens.

    Attributes:
        at: steps after which it is done; none by default. All are in the main phase of training.
        inputs: how many of the most recent inputs losses are computed on.
        rewarm_steps: steps over which the learning rate rises again from 0 afterwards.
        exempt_fraction: share of the features, drawn at random once, that are never resampled.
    """

    at: list[int] = field(default_factory=list)
    inputs: int = number(16_384, at_least=1, at_most=2**24)
    rewarm_steps: int = number(100, at_least=0)
    exempt_fraction: float = number(0.0, at_least=0, at_most=1)

    def __post_init__(self) -> None:
        self.at = sorted(set(self.at))
        others = [each for each in fields(self) if each.name != "at"]
        changed = [f"resample.{each.name}" for each in others if getattr(self, each.name) != each.default]
        if changed and not self.at:
            have = "has" if len(changed) == 1 else "have"
            raise ValueError(f"{' and '.join(changed)} {have} no effect without resample.at=: give it")
