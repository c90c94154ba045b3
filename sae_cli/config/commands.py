"""The primary configurations: one dataclass a command, the same names at the top of each.

Execution settings change how a job runs but not what it produces: they are not part of a run's name
and two configurations that differ in them only are the same run.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from sae_cli.config.bounds import number
from sae_cli.config.checkpoint import CheckpointConfig
from sae_cli.config.data import DataConfig, NonFinite
from sae_cli.config.edits import Finetune, ModelPart, RandomScheme
from sae_cli.config.evaluation import Baseline, ContextsConfig, EvaluationConfig, FeaturePassConfig, Space
from sae_cli.config.hook import HookConfig
from sae_cli.config.model import Dtype, ModelConfig
from sae_cli.config.paths import PathKind, place
from sae_cli.config.references import reference
from sae_cli.config.resample import ResampleConfig
from sae_cli.config.sae import SaeConfig, TopKSae
from sae_cli.config.tracking import trackers
from sae_cli.config.train import TrainingConfig

EXECUTION_SETTINGS = (
    "device",
    "name",
    "runs_dir",
    "overwrite",
    "verify",
    "activations",
    "model_rows",
    "train.log_every",
    "train.held_out_every",
    "checkpoint",
    "keep_checkpoints",
    "tracker",
    "out",
)


@dataclass(kw_only=True)
class CommandConfig:
    """What every command takes.

    Attributes:
        name: the run directory, relative to `runs_dir`; null for one derived from the settings.
        runs_dir: where runs live.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overwrite: replace a run of the same name that has other settings, or was finished.
        verify: check the hash of every file that is read.
        model_rows: rows of tokens a forward pass of the language model.
    """

    name: str | None = None
    runs_dir: str = place(PathKind.here, "runs")
    device: str = "auto"
    overwrite: bool = False
    verify: bool = True
    model_rows: int = number(16, at_least=1)


@dataclass(kw_only=True)
class HarvestConfig(CommandConfig):
    """`sae harvest`: write activations to disk.

    Attributes:
        tokens: activations to write (positions outside the mask do not count).
        dtype: number format of the shards.
        shard_tokens: activations a shard.
        non_finite: what is done with activations that are NaN or infinite in the shards' format.
    """

    model: ModelConfig = MISSING
    hook: HookConfig = MISSING
    data: DataConfig = MISSING
    layer: int = number(at_least=-1)
    tokens: int = number(at_least=1)
    dtype: Dtype = Dtype.float32
    shard_tokens: int = number(65_536, at_least=1)
    non_finite: NonFinite = NonFinite["raise"]


@dataclass(kw_only=True)
class TrainConfig(CommandConfig):
    """`sae train`: train a dictionary.

    Attributes:
        dict_size: number of features.
        l1: coefficient of the sparsity penalty, for activations scaled to norm sqrt(d).
        k: active features a token, for architectures that fix their number.
        tokens: training tokens.
        seed: initialisation (the order of the data has its own, `data.seed`).
        activations: a harvest run to read; null to find a matching one in `runs_dir`, else live.
        keep_checkpoints: leave the last checkpoint when the run is complete.
        non_finite: what is done with activations that are NaN or infinite.
        tracker: where the training curve goes besides `metrics.jsonl`: `none`, `tensorboard`, `wandb` or a list.
    """

    model: ModelConfig = MISSING
    hook: HookConfig = MISSING
    data: DataConfig = MISSING
    sae: SaeConfig = MISSING
    train: TrainingConfig = field(default_factory=TrainingConfig)
    resample: ResampleConfig = field(default_factory=ResampleConfig)
    layer: int = number(at_least=-1)
    dict_size: int = number(at_least=1)
    l1: float = number(at_least=0)
    k: int = number(32, at_least=1)
    tokens: int = number(at_least=1)
    seed: int = number(0, at_least=0)
    activations: str | None = place(PathKind.here, None)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    keep_checkpoints: bool = False
    non_finite: NonFinite = NonFinite["raise"]
    tracker: Any = None

    def __post_init__(self) -> None:
        self.tracker = trackers(self.tracker)
        if self.resample.at and isinstance(self.sae, TopKSae):
            raise ValueError(
                f"resample.at={self.resample.at}: sae={self.sae.architecture} revives dead features by its auxiliary "
                "loss (sae.aux_coefficient); resampling is for relu, gated and jump_relu"
            )


@dataclass(kw_only=True)
class EvalConfig(CommandConfig):
    """`sae eval`: every metric of a dictionary; `sae eval PATH` means `run=PATH`.

    Attributes:
        run: the dictionary's run directory; a list of several, of one model, splices them in at once.
        data: another corpus than the one the dictionary was trained on; null for the same.
        baselines: bases measured beside it, each held to its L0 by keeping the largest coefficients.
        ablate: numbers of features whose effect on the logits is measured on all paths, by taking each of them out.
        references: models that the spliced one is placed among by its loss: options of `model`, folders or hub ids,
            with `@revision` for a checkpoint.
        out: a folder for the evaluation, where the run cannot be written; null for the run's own.
    """

    run: Any = place(PathKind.here)
    data: DataConfig | None = None
    eval: EvaluationConfig = field(default_factory=EvaluationConfig)
    features: FeaturePassConfig = field(default_factory=FeaturePassConfig)
    baselines: list[Baseline] = field(default_factory=list)
    ablate: list[int] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    out: str | None = place(PathKind.here, None)

    def __post_init__(self) -> None:
        if self.run != MISSING:
            self.run = _one_or_several(self.run)
        if self.together() and (self.baselines or self.features != FeaturePassConfig()):
            raise ValueError(
                "features and baselines are measured for each dictionary by itself and have no effect with "
                "run=[…] of several: leave them out"
            )
        if self.together() and self.ablate:
            raise ValueError(f"ablate={self.ablate} has no effect with run=[…] of several: give one run")
        if self.together() and self.out is not None:
            raise ValueError(f"out={self.out} has no effect with run=[…] of several, a run of its own: give runs_dir=")
        for each in self.references:
            reference(each)

    def together(self) -> bool:
        """Whether several dictionaries are spliced in at once."""
        return isinstance(self.run, list)


@dataclass(kw_only=True)
class PruneConfig(CommandConfig):
    """`sae prune-high-freq`: a dictionary without some of its features; a bare path means `run=PATH`.

    Frequencies are those of the run's evaluation with the same `features`, which is made if there is none: in the run,
    or below `runs_dir` where the run cannot be written.

    Attributes:
        run: the dictionary's run directory.
        max_freq: kill features that fire on a larger share of tokens.
        target_l0: kill as few of the most frequent features as bring L0 down to this.
        top_n: kill the N most frequent features.
        min_freq: kill features that fire on a smaller share of tokens.
        recenter: add the mean error of what is left to `b_dec`; the codes stay as they are.
        finetune_tokens: train what is left on so many activations.
        finetune: what is trained then.
        finetune_lr: its peak learning rate; null for a tenth of the run's own.
    """

    run: str = place(PathKind.here)
    max_freq: float | None = number(None, at_least=0, below=1)
    target_l0: float | None = number(None, at_least=0)
    top_n: int | None = number(None, at_least=1)
    min_freq: float | None = number(None, above=0, at_most=1)
    recenter: bool = False
    finetune_tokens: int = number(0, at_least=0)
    finetune: Finetune = Finetune.decoder
    finetune_lr: float | None = number(None, above=0)
    eval: EvaluationConfig = field(default_factory=EvaluationConfig)
    features: FeaturePassConfig = field(default_factory=FeaturePassConfig)

    def __post_init__(self) -> None:
        from_above = [name for name in ("max_freq", "target_l0", "top_n") if getattr(self, name) is not None]
        if len(from_above) > 1:
            raise ValueError(f"{' and '.join(from_above)} exclude each other: give one")
        if not from_above and self.min_freq is None:
            raise ValueError("nothing to prune by: give max_freq=, target_l0=, top_n= or min_freq=")
        if self.finetune_tokens and self.finetune is Finetune.all and self.recenter:
            raise ValueError("recenter=true has no effect before finetune=all, which trains b_dec: leave it out")
        if not self.finetune_tokens and (self.finetune is not Finetune.decoder or self.finetune_lr is not None):
            raise ValueError("finetune and finetune_lr have no effect without finetune_tokens=: give it")


@dataclass(kw_only=True)
class RandomizeConfig(CommandConfig):
    """`sae randomize-weights`: the model with random numbers for weights, as a model folder.

    Attributes:
        scheme: where the numbers come from.
        keep: parts that keep their weights.
        seed: of the numbers.
    """

    model: ModelConfig = MISSING
    scheme: RandomScheme = RandomScheme.reinit
    keep: list[ModelPart] = field(default_factory=list)
    seed: int = number(0, at_least=0)

    def __post_init__(self) -> None:
        self.keep = sorted(set(self.keep), key=lambda part: part.value)


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

    a: str = place(PathKind.here)
    b: Any = place(PathKind.run_or_truth)
    space: Space = Space.auto
    one_to_one: bool = True
    seed: int = number(0, at_least=0)
    eval: EvaluationConfig = field(default_factory=EvaluationConfig)
    features: FeaturePassConfig = field(default_factory=FeaturePassConfig)

    def __post_init__(self) -> None:
        if self.b != MISSING:
            self.b = [self.b] if isinstance(self.b, str) else self.b
            if not (isinstance(self.b, list) and self.b and all(isinstance(each, str) for each in self.b)):
                raise ValueError(f"b={self.b}: expected a run directory or a list of them")


@dataclass(kw_only=True)
class FeaturesConfig(CommandConfig):
    """`sae features`: sheets of a dictionary's features; `sae features PATH` means `run=PATH`.

    Statistics are those of the run's evaluation with the same `eval` and `features`, which is made if there is none.

    Attributes:
        run: the dictionary's run directory.
        data: another corpus than the one the dictionary was trained on; null for the same.
        only: numbers of features; empty for all, unless `at_frequency` is given.
        at_frequency: frequencies, for each of which the alive features of the nearest frequency are chosen.
        n: how many of them.
        ablate: numbers of features whose effect on losses and logits is measured by taking each of them out.
        out: a folder for the sheets, and for the evaluation if the run has none, where the run cannot be written; null
            for the run's own.
    """

    run: str = place(PathKind.here)
    data: DataConfig | None = None
    only: list[int] = field(default_factory=list)
    at_frequency: list[float] = field(default_factory=list)
    n: int = number(4, at_least=1)
    ablate: list[int] = field(default_factory=list)
    out: str | None = place(PathKind.here, None)
    contexts: ContextsConfig = field(default_factory=ContextsConfig)
    eval: EvaluationConfig = field(default_factory=EvaluationConfig)
    features: FeaturePassConfig = field(default_factory=FeaturePassConfig)

    def __post_init__(self) -> None:
        if self.n != 4 and not self.at_frequency:
            raise ValueError(f"n={self.n} has no effect without at_frequency=: give it")
        for each in self.at_frequency:
            if not 0 < each <= 1:
                raise ValueError(f"at_frequency={each:g}: expected above 0 and at most 1")
        self.only, self.ablate = sorted(set(self.only)), sorted(set(self.ablate))


def _one_or_several(run: Any) -> str | list[str]:
    """A run directory, or several; a list of one is that one."""
    runs = run if isinstance(run, list) else [run]
    if not runs or not all(isinstance(each, str | int) and str(each) for each in runs):
        raise ValueError(f"run={run}: expected a run directory or a list of them")
    runs = [str(each) for each in runs]
    if twice := [each for each in runs if runs.count(each) > 1]:
        raise ValueError(f"run=[…] has {twice[0]} twice: give each dictionary once")
    return runs if len(runs) > 1 else runs[0]


PRIMARIES: dict[str, type[CommandConfig]] = {
    "harvest": HarvestConfig,
    "train": TrainConfig,
    "eval": EvalConfig,
    "prune-high-freq": PruneConfig,
    "randomize-weights": RandomizeConfig,
    "compare": CompareConfig,
    "features": FeaturesConfig,
}
"""The schema of each command."""
