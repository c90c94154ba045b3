"""`sae compare`: how similar the features of dictionaries are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import CommandConfig
from sae_cli.config.evaluation import By, EvaluationConfig, FeaturePassConfig, Space
from sae_cli.config.idle import Idle
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.paths import TRUTH
from sae_cli.config.roles import PathKind, number, place, setting, settings
from sae_cli.config.settings import flatten, result_settings
from sae_cli.config.several import OneOrSeveral

MATCHED_ABOVE, SAMPLE = 0.7, 64


@dataclass(kw_only=True)
class CompareConfig(CommandConfig):
    """`sae compare`: how similar the features of dictionaries are.

    Only features that are alive are compared: in the evaluation of each run with the same `eval` and `features`, which
    is made if there is none: in the run, or below `runs_dir` where the run cannot be written.

    Attributes:
        a: a dictionary's run directory.
        b: one or more others; `truth` for the known directions of data=synthetic.
        by: what features are compared by. Where the networks have no basis in common, `activations` and `effects` are
            all that means anything: they take models that read the same tokens.
        space: where directions are compared.
        matched_above: a feature is found again where its largest similarity is above this; universal is one that is
            found again in all the others but one at most, where there are at least two.
        sample: features of each dictionary whose effects are measured, spread evenly over their frequencies.
        one_to_one: also the best one-to-one assignment, up to 16,384 features.
        seed: of the random directions that are the floors.
    """

    command: ClassVar[str] = "compare"

    a: str = place(PathKind.here)
    b: OneOrSeveral = place(PathKind.run_or_name)
    by: By = setting(By.directions, added=True)
    space: Space = Space.auto
    matched_above: float = number(MATCHED_ABOVE, above=0, below=1, added=True)
    sample: int = number(SAMPLE, at_least=1, added=True)
    one_to_one: bool = True
    seed: int = number(0, at_least=0, ordinal=True)
    eval: EvaluationConfig = settings(EvaluationConfig)
    features: FeaturePassConfig = settings(FeaturePassConfig)

    def __post_init__(self) -> None:
        if self.b != MISSING:
            self.b = [self.b] if isinstance(self.b, str) else self.b
            if not (isinstance(self.b, list) and self.b and all(isinstance(each, str) for each in self.b)):
                raise ValueError(f"b={self.b}: expected a run directory or a list of them")
            if TRUTH in self.b and self.by is not By.directions:
                raise ValueError(f"b=truth: its directions are known; expected by=directions, found by={self.by.value}")

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if not self.by.of_rows and self.space is not Space.auto:
            yield Idle("space", f"with by={self.by.value}", "leave it out")
        if self.by is not By.effects and self.sample != SAMPLE:
            yield Idle("sample", f"with by={self.by.value}", "leave it out, or compare by=effects")
        if self.by is By.effects and not self.one_to_one:
            yield Idle("one_to_one", "with by=effects", "leave it out")
        if not self.by.of_rows and self.seed:
            yield Idle("seed", f"with by={self.by.value}, whose floors are other features", "leave it out")

    def run_name(self) -> RunName:
        return RunName("compare", f"{last_part(self.a)}-{short_hash(result_settings(self))}", set(flatten(self)))
