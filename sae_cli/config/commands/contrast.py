"""`sae contrast`: whether two recipes differ in a figure, over seeds and documents."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import CommandConfig
from sae_cli.config.evaluation import Baseline, EvaluationConfig, FeaturePassConfig
from sae_cli.config.naming import RunName, last_part, short_hash
from sae_cli.config.prediction import prediction
from sae_cli.config.roles import PathKind, number, place, setting, settings
from sae_cli.config.settings import flatten, result_settings
from sae_cli.config.several import OneOrSeveral

_BASELINES = [each.value for each in Baseline]


class Curve(Enum):
    """`none`: dictionaries are held against dictionaries; `l0`: against a sweep, at the same L0."""

    none = "none"
    l0 = "l0"


@dataclass(kw_only=True)
class ContrastConfig(CommandConfig):
    """`sae contrast A… --against B…`: figures of dictionaries of one recipe against those of another, paired.

    The dictionaries are paired by their seeds, or as they are given, and measured on the same rows of text, each in its
    evaluation with the same `eval` and `features`, which is made if there is none.

    Attributes:
        a: dictionaries, one for each seed; with `curve=l0` one, or a sweep, for each seed.
        against: as many dictionaries; or names of baselines, as `token2`, which are measured beside each of A; with
            `curve=l0` a sweep for each seed.
        curve: with `l0` figures are held against those of a curve in log L0 through at least six dictionaries of the
            same seed, monotone and without increasing returns.
        figures: that are compared, of an evaluation.
        material: the size of a difference that matters; null for that of each figure.
        predict: what is expected to come out, as `loss_recovered<.74` of A or `difference.fvu>0` of A less B; it is
            stored before anything is measured, and judged at the end.
    """

    command: ClassVar[str] = "contrast"

    a: OneOrSeveral = place(PathKind.here)
    against: OneOrSeveral = place(PathKind.run_or_name)
    curve: Curve = setting(Curve.none, added=True)
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
        if MISSING not in (self.a, self.against):
            self._check_arms()
        if not self.figures:
            raise ValueError("figures=[]: expected at least one figure, as in figures=[loss_recovered,fvu]")
        for each in self.predict:
            if prediction(each).figure not in self.figures:
                raise ValueError(f"predict={each}: its figure is not among figures=[{','.join(self.figures)}]: add it")

    def baselines(self) -> list[Baseline]:
        """Those that A is held against; none where it is held against dictionaries."""
        return [Baseline(each) for each in self.against if each in _BASELINES]

    def _check_arms(self) -> None:
        names = self.baselines()
        if names and len(names) < len(self.against):
            raise ValueError(
                f"against=[{','.join(self.against)}]: expected baselines or dictionaries, found both; a folder named "
                f"{names[0].value} is ./{names[0].value}"
            )
        if names and self.curve is not Curve.none:
            raise ValueError("curve=l0 has no effect against baselines, which have the L0 of A: leave it out")
        if len(names) > 1 and any(prediction(each).of_difference for each in self.predict):
            raise ValueError("predict=difference.…: expected one baseline in against=, found several")
        if not names and self.curve is Curve.none and len(self.a) != len(self.against):
            raise ValueError(
                f"expected as many dictionaries in against= as in a=, one for each seed, found {len(self.against)} and "
                f"{len(self.a)}"
            )

    def run_name(self) -> RunName:
        what = f"{last_part(self.a[0])}-{short_hash(result_settings(self))}"
        return RunName("contrast", what, set(flatten(self)))
