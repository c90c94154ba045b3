"""`sae eval`: every metric of a dictionary."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import MeasuringConfig
from sae_cli.config.evaluation import Baseline, EvaluationConfig, FeaturePassConfig, TimedEvaluationConfig
from sae_cli.config.hook import SiteConfig
from sae_cli.config.idle import Idle
from sae_cli.config.naming import RunName, model_part, safe_part, short_hash
from sae_cli.config.paths import absolute
from sae_cli.config.references import reference
from sae_cli.config.roles import PathKind, number, place, settings
from sae_cli.config.settings import flatten, result_settings
from sae_cli.config.several import NoneOrSeveral
from sae_cli.config.stored import trained_with
from sae_cli.documents import Document

BASELINE_TOKENS = 750_000
NOTHING_BESIDE: Document = {
    "baselines": [],
    "baseline_tokens": BASELINE_TOKENS,
    "references": [],
    "ablate": [],
    "control": None,
}
"""Settings of an evaluation of a dictionary alone."""

_MOST_PLACES = 4
"""Hook points that the name of an evaluation of several dictionaries spells out."""


@dataclass(kw_only=True)
class EvalConfig(MeasuringConfig):
    """`sae eval`: every metric of a dictionary; `sae eval PATH` means `run=PATH`.

    Attributes:
        run: the dictionary's run directory; a list of several, of one model, splices them in at once.
        data: another corpus than the one the dictionary was trained on; null for the same.
        baselines: what is measured beside it: means by token, and bases, each held to its L0 by keeping the largest
            coefficients.
        baseline_tokens: positions of the training text that means by token are taken over.
        ablate: numbers of features whose effect on the logits is measured on all paths, by taking each of them out.
        references: models that the spliced one is placed among by its loss: options of `model`, folders or hub ids,
            with `@revision` for a checkpoint.
        control: other dictionaries, measured on the same rows of text and shown beside it with what it has more: of a
            network with random weights, with rows that were never trained; one, or a list.
        out: a folder for the evaluation, where the run cannot be written; null for the run's own.
    """

    command: ClassVar[str] = "eval"
    lives: ClassVar[str] = "an evaluation lives in its"

    eval: EvaluationConfig = settings(TimedEvaluationConfig)
    features: FeaturePassConfig = settings(FeaturePassConfig)
    baselines: list[Baseline] = settings(list)
    baseline_tokens: int = number(BASELINE_TOKENS, at_least=1, added=True)
    ablate: list[int] = settings(list, ordinal=True)
    references: list[str] = settings(list)
    control: NoneOrSeveral = place(PathKind.here, None, added=True)
    out: str | None = place(PathKind.here, None, execution=True)

    def __post_init__(self) -> None:
        if self.run != MISSING:
            self.run = _one_or_several(self.run)
        if self.together() and (self.baselines or self.features != FeaturePassConfig()):
            raise ValueError(
                "features and baselines are measured for each dictionary by itself and have no effect with "
                "run=[…] of several: leave them out"
            )
        if self.control is not None:
            self.control = [self.control] if isinstance(self.control, str) else self.control
            if not isinstance(self.control, list) or not all(isinstance(each, str) and each for each in self.control):
                raise ValueError(f"control={self.control}: expected a run directory or a list of them")
            if twice := [each for each in self.control if self.control.count(each) > 1]:
                raise ValueError(f"control=[…] has {twice[0]} twice: give each dictionary once")
        if self.together() and self.eval.minutes is not None:
            raise ValueError(
                f"eval.minutes={self.eval.minutes:g} has no effect with run=[…] of several: give eval.tokens="
            )
        if self.together() and self.control:
            raise ValueError(f"control={self.control} has no effect with run=[…] of several: give one run")
        if self.together() and self.ablate:
            raise ValueError(f"ablate={self.ablate} has no effect with run=[…] of several: give one run")
        if self.together() and self.out is not None:
            raise ValueError(f"out={self.out} has no effect with run=[…] of several, a run of its own: give runs_dir=")
        for each in self.references:
            reference(each)

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if self.baseline_tokens != BASELINE_TOKENS and not any(each.tokens for each in self.baselines):
            yield Idle("baseline_tokens", "without baselines=[token] or [token2]", "leave it out")

    def together(self) -> bool:
        """Whether several dictionaries are spliced in at once."""
        return isinstance(self.run, list)

    def run_name(self) -> RunName:
        """Of several dictionaries: by their places, where these are few enough to name, and all trained here."""
        hashed = short_hash(result_settings(self))
        found = [trained_with(Path(run)) for run in self.run]
        trained = sorted((each for each in found if each), key=lambda each: (each.layer, each.hook.called))
        if len(trained) < len(found):
            return RunName("eval/elsewhere", f"{len(found)}_dictionaries-{hashed}", set(flatten(self)))
        places = [safe_part(SiteConfig.of(each.hook, each.layer).label) for each in trained]
        what = "-".join(places) if len(places) <= _MOST_PLACES else f"{len(places)}_dictionaries"
        where = "synthetic" if trained[0].is_synthetic else model_part(trained[0].model)[0]
        return RunName(f"eval/{where}", f"{what}-{hashed}", set(flatten(self)))

    def normalized(self, settings: Document) -> Document:
        """With runs in any order, and references by what they are, not by what they are called."""
        run = settings.get("run")
        runs = {"run": sorted(run)} if isinstance(run, list) else {}
        models = (reference(each).model for each in self.references)
        named = {absolute(each.path) + (f"@{each.revision}" if each.revision else "") for each in models}
        return {**settings, **runs, "references": sorted(named)}


def _one_or_several(run: object) -> str | list[str]:
    """A run directory, or several; a list of one is that one."""
    runs = run if isinstance(run, list) else [run]
    if not runs or not all(isinstance(each, str | int) and str(each) for each in runs):
        raise ValueError(f"run={run}: expected a run directory or a list of them")
    runs = [str(each) for each in runs]
    if twice := [each for each in runs if runs.count(each) > 1]:
        raise ValueError(f"run=[…] has {twice[0]} twice: give each dictionary once")
    return runs if len(runs) > 1 else runs[0]
