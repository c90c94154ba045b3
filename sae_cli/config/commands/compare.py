"""`sae compare`: how similar the decoder directions of dictionaries are."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import CommandConfig
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig, Space
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.roles import PathKind, number, place, settings
from sae_cli.config.settings import flatten, result_settings
from sae_cli.config.several import OneOrSeveral


@dataclass(kw_only=True)
class CompareConfig(CommandConfig):
    """`sae compare`: how similar the decoder directions of dictionaries are.

    Only features that are alive are compared: in the evaluation of each run with the same `eval` and `features`, which
    is made if there is none: in the run, or below `runs_dir` where the run cannot be written.

    Attributes:
        a: a dictionary's run directory.
        b: one or more others; `truth` for the known directions of data=synthetic.
        space: where directions are compared.
        one_to_one: also the best one-to-one assignment, up to 16,384 features.
        seed: of the random directions that are the floors.
    """

    command: ClassVar[str] = "compare"

    a: str = place(PathKind.here)
    b: OneOrSeveral = place(PathKind.run_or_name)
    space: Space = Space.auto
    one_to_one: bool = True
    seed: int = number(0, at_least=0, ordinal=True)
    eval: EvaluationConfig = settings(EvaluationConfig)
    features: FeaturePassConfig = settings(FeaturePassConfig)

    def __post_init__(self) -> None:
        if self.b != MISSING:
            self.b = [self.b] if isinstance(self.b, str) else self.b
            if not (isinstance(self.b, list) and self.b and all(isinstance(each, str) for each in self.b)):
                raise ValueError(f"b={self.b}: expected a run directory or a list of them")

    def run_name(self) -> RunName:
        return RunName("compare", f"{last_part(self.a)}-{short_hash(result_settings(self))}", set(flatten(self)))
