"""`sae prune-high-freq`: a dictionary without some of its features."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sae_cli.config.command import CommandConfig
from sae_cli.config.edits import Finetune
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.naming import RunName, last_part, number_part, short_hash
from sae_cli.config.paths import absolute
from sae_cli.config.roles import PathKind, number, place, setting, settings

_FROM_ABOVE = ("max_freq", "target_l0", "top_n")
_OTHERS = ("min_freq", "band")


@dataclass(kw_only=True)
class PruneConfig(CommandConfig):
    """`sae prune-high-freq`: a dictionary without some of its features; a bare path means `run=PATH`.

    Frequencies are those of the run's evaluation with the same `features`, which is made if there is none: in the run,
    or below `runs_dir` where the run cannot be written.

    Attributes:
        run: the dictionary's run directory.
        max_freq: prune features that fire on a larger share of tokens.
        target_l0: prune as few of the most frequent features as bring L0 down to this.
        top_n: prune the N most frequent features.
        min_freq: prune features that fire on a smaller share of tokens.
        band: prune the features that fire and whose place in the order of frequency is in this range, as `[.9,1]` for
            the most frequent tenth.
        control: prune, in place of these, others that fire as often in total, drawn at random with this seed; null for
            no control.
        recenter: add the mean error of what is left to `b_dec`; the codes stay as they are.
        finetune_tokens: train what is left on so many activations.
        finetune: what is trained then.
        finetune_lr: its peak learning rate; null for a tenth of the run's own.
    """

    command: ClassVar[str] = "prune-high-freq"

    run: str = place(PathKind.here)
    max_freq: float | None = number(None, at_least=0, below=1)
    target_l0: float | None = number(None, at_least=0)
    top_n: int | None = number(None, at_least=1)
    min_freq: float | None = number(None, above=0, at_most=1)
    band: list[float] | None = setting(None, added=True)
    control: int | None = number(None, at_least=0, ordinal=True, added=True)
    recenter: bool = False
    finetune_tokens: int = number(0, at_least=0)
    finetune: Finetune = Finetune.decoder
    finetune_lr: float | None = number(None, above=0)
    eval: EvaluationConfig = settings(EvaluationConfig)
    features: FeaturePassConfig = settings(FeaturePassConfig)

    def __post_init__(self) -> None:
        from_above = [name for name in _FROM_ABOVE if getattr(self, name) is not None]
        if len(from_above) > 1:
            raise ValueError(f"{' and '.join(from_above)} exclude each other: give one")
        if not from_above and not [name for name in _OTHERS if getattr(self, name) is not None]:
            raise ValueError("nothing to prune by: give max_freq=, target_l0=, top_n=, min_freq= or band=")
        if self.band is not None and not (len(self.band) == 2 and 0 <= self.band[0] < self.band[1] <= 1):
            raise ValueError(f"band={self.band}: expected two ascending places between 0 and 1, as band=[.9,1]")
        if self.finetune_tokens and self.finetune is Finetune.all and self.recenter:
            raise ValueError("recenter=true has no effect before finetune=all, which trains b_dec: leave it out")
        if not self.finetune_tokens and (self.finetune is not Finetune.decoder or self.finetune_lr is not None):
            raise ValueError("finetune and finetune_lr have no effect without finetune_tokens=: give it")

    def run_name(self) -> RunName:
        """Beside each other under the name of what was pruned; what was pruned twice says so in one part."""
        limits = {name: getattr(self, name) for name in (*_FROM_ABOVE, "min_freq")}
        done = [f"{name}_{number_part(value)}" for name, value in limits.items() if value is not None]
        done += ["band_" + "_".join(map(number_part, self.band))] if self.band is not None else []
        done += [f"control_{self.control}"] if self.control is not None else []
        done += ["recenter"] if self.recenter else []
        done += [f"finetune_{self.finetune_tokens}"] if self.finetune_tokens else []
        what, shown = "-".join(done), {"run", *limits, "band", "control", "recenter", "finetune_tokens"}
        path, root = Path(absolute(self.run, PathKind.here)), Path(os.path.abspath(self.runs_dir))
        parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
        if len(parts) > 2 and parts[0] == "train":
            return RunName("/".join((self.command, *parts[1:])), what, shown)
        if len(parts) > 2 and parts[0] == self.command:
            return RunName("/".join(parts[:-1]), f"{parts[-1]}-{what}", shown)
        return RunName(f"{self.command}/{last_part(self.run)}-{short_hash(str(path))}", what, shown)
