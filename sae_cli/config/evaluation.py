"""The groups `eval` and `features`: how much text a dictionary is measured on."""

from dataclasses import dataclass

from sae_cli.config.bounds import number
from sae_cli.config.split import Split


@dataclass(kw_only=True)
class EvaluationConfig:
    """Reconstruction and losses, on held-out text.

    Attributes:
        tokens: evaluated positions (rounded up to whole rows; fewer where the text ends).
    """

    tokens: int = number(100_000, at_least=1)


@dataclass(kw_only=True)
class FeaturePassConfig:
    """Per-feature statistics, from a pass of their own.

    Attributes:
        tokens: positions counted.
        split: `train` by default, because rare features need more tokens than a held-out set has.
    """

    tokens: int = number(200_000, at_least=1)
    split: Split = Split.train
