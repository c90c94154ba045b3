"""The primary configurations: one dataclass a command, the same names at the top of each.

Execution settings change how a job runs but not what it produces: they are not part of a run's name
and two configurations that differ in them only are the same run.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from sae_cli.config.bounds import number
from sae_cli.config.data import DataConfig
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.hook import HookConfig
from sae_cli.config.model import Dtype, ModelConfig
from sae_cli.config.sae import SaeConfig
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
    runs_dir: str = "runs"
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
    """

    model: ModelConfig = MISSING
    hook: HookConfig = MISSING
    data: DataConfig = MISSING
    layer: int = number(at_least=-1)
    tokens: int = number(at_least=1)
    dtype: Dtype = Dtype.float32
    shard_tokens: int = number(131_072, at_least=1)


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
    """

    model: ModelConfig = MISSING
    hook: HookConfig = MISSING
    data: DataConfig = MISSING
    sae: SaeConfig = MISSING
    train: TrainingConfig = field(default_factory=TrainingConfig)
    layer: int = number(at_least=-1)
    dict_size: int = number(at_least=1)
    l1: float = number(at_least=0)
    k: int = number(32, at_least=1)
    tokens: int = number(at_least=1)
    seed: int = number(0, at_least=0)
    activations: str | None = None


@dataclass(kw_only=True)
class EvalConfig(CommandConfig):
    """`sae eval`: every metric of a trained dictionary; `sae eval PATH` means `run=PATH`.

    Attributes:
        run: the dictionary's run directory.
        data: another corpus than the one the dictionary was trained on; null for the same.
    """

    run: str = MISSING
    data: DataConfig | None = None
    eval: EvaluationConfig = field(default_factory=EvaluationConfig)
    features: FeaturePassConfig = field(default_factory=FeaturePassConfig)


PRIMARIES: dict[str, type[CommandConfig]] = {"harvest": HarvestConfig, "train": TrainConfig, "eval": EvalConfig}
"""The schema of each command."""
