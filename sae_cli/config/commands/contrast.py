"""`sae contrast`: whether two recipes differ in a figure, over seeds and documents."""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import CommandConfig
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.prediction import prediction
from sae_cli.config.roles import PathKind, number, place, settings
from sae_cli.config.settings import flatten, result_settings
from sae_cli.config.several import OneOrSeveral


@dataclass(kw_only=True)
class ContrastConfig(CommandConfig):
    """`sae contrast A… --against B…`: figures of dictionaries of one recipe against those of another, paired.

    The dictionaries are paired by their seeds, or as they are given, and measured on the same rows of text, each in its
    evaluation with the same `eval` and `features`, which is made if there is none.

    Attributes:
        a, against: dictionaries, one for each seed; as many of one as of the other.
        figures: that are compared: of an evaluation, those that have standard errors.
        material: the size of a difference that matters; null for that of each figure.
        predict: what is expected to come out, as `loss_recovered<.74` of A or `difference.fvu>0` of A less B; it is
            stored before anything is measured, and judged at the end.
    """

    command: ClassVar[str] = "contrast"

    a: OneOrSeveral = place(PathKind.here)
    against: OneOrSeveral = place(PathKind.here)
    figures: list[str] = settings(lambda: ["l0", "fvu", "loss_recovered", "ce_increase"])
    material: float | None = number(None, above=0)
    predict: list[str] = settings(list)
    eval: EvaluationConfig = settings(EvaluationConfig)
    features: FeaturePassConfig = settings(FeaturePassConfig)

    def __post_init__(self) -> None:
        for key in ("a", "against"):
            if (given := getattr(self, key)) != MISSING:
                setattr(self, key, runs := [given] if isinstance(given, str) else given)
                if not (isinstance(runs, list) and runs and all(isinstance(each, str) for each in runs)):
                    raise ValueError(f"{key}={given}: expected a run directory or a list of them")
                if twice := [each for each in runs if runs.count(each) > 1]:
                    raise ValueError(f"{key}=[…] has {twice[0]} twice: give each dictionary once")
        if MISSING not in (self.a, self.against) and len(self.a) != len(self.against):
            raise ValueError(
                f"expected as many dictionaries in against= as in a=, one for each seed, found {len(self.against)} and "
                f"{len(self.a)}"
            )
        if not self.figures:
            raise ValueError("figures=[]: expected at least one figure, as in figures=[loss_recovered,fvu]")
        for each in self.predict:
            if prediction(each).figure not in self.figures:
                raise ValueError(f"predict={each}: its figure is not among figures=[{','.join(self.figures)}]: add it")

    def run_name(self) -> RunName:
        what = f"{last_part(self.a[0])}-{short_hash(result_settings(self))}"
        return RunName("contrast", what, set(flatten(self)))
