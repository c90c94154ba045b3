"""`sae features`: pages of a dictionary's features."""

from dataclasses import dataclass
from typing import ClassVar

from sae_cli.config.command import MeasuringConfig
from sae_cli.config.evaluation import ContextsConfig, EvaluationConfig, FeaturePassConfig
from sae_cli.config.roles import PathKind, number, place, settings


@dataclass(kw_only=True)
class FeaturesConfig(MeasuringConfig):
    """`sae features`: pages of a dictionary's features; `sae features PATH` means `run=PATH`.

    Statistics are those of the run's evaluation with the same `eval` and `features`, which is made if there is none.

    Attributes:
        run: the dictionary's run directory.
        data: another corpus than the one the dictionary was trained on; null for the same.
        only: numbers of features; empty for all, unless `at_frequency` is given.
        at_frequency: frequencies, for each of which the alive features of the nearest frequency are chosen.
        n: how many of them.
        ablate: numbers of features whose effect on losses and logits is measured by taking each of them out.
        out: a folder for the pages, and for the evaluation if the run has none, where the run cannot be written; null
            for the run's own.
    """

    command: ClassVar[str] = "features"
    lives: ClassVar[str] = "feature pages live in their"
    held_in_memory: ClassVar[tuple[str, ...]] = (
        *("contexts.window", "contexts.per_band", "contexts.top", "model_rows"),
    )

    run: str = place(PathKind.here)
    only: list[int] = settings(list, ordinal=True)
    at_frequency: list[float] = settings(list)
    n: int = number(4, at_least=1)
    ablate: list[int] = settings(list, ordinal=True)
    out: str | None = place(PathKind.here, None, execution=True)
    contexts: ContextsConfig = settings(ContextsConfig)
    eval: EvaluationConfig = settings(EvaluationConfig)
    features: FeaturePassConfig = settings(FeaturePassConfig)

    def __post_init__(self) -> None:
        if self.n != 4 and not self.at_frequency:
            raise ValueError(f"n={self.n} has no effect without at_frequency=: give it")
        for each in self.at_frequency:
            if not 0 < each <= 1:
                raise ValueError(f"at_frequency={each:g}: expected above 0 and at most 1")
        self.only, self.ablate = sorted(set(self.only)), sorted(set(self.ablate))
