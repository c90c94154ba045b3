"""`sae train`: train a dictionary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.checkpoint import CheckpointConfig
from sae_cli.config.command import StreamConfig
from sae_cli.config.data import NonFinite
from sae_cli.config.idle import Idle
from sae_cli.config.naming import RunName, number_part
from sae_cli.config.resample import ResampleConfig
from sae_cli.config.roles import PathKind, number, place, setting, settings
from sae_cli.config.sae import GatedSae, JumpReluSae, L1Units, ReluSae, SaeConfig, TopKSae
from sae_cli.config.several import NoneOrSeveral
from sae_cli.config.tracking import trackers
from sae_cli.config.train import Part, TrainingConfig
from sae_cli.documents import Document


@dataclass(kw_only=True)
class TrainConfig(StreamConfig):
    """`sae train`: train a dictionary.

    Attributes:
        dict_size: number of features.
        l1: coefficient of the sparsity penalty, for activations scaled to norm sqrt(d).
        k: active features a token, for architectures that fix their number.
        tokens: training tokens.
        seed: initialization (the order of the data has its own, `data.seed`).
        activations: a harvest run to read; null to find a matching one in `runs_dir`, else live.
        keep_checkpoints: leave the last checkpoint when the run is complete.
        non_finite: what is done with activations that are NaN or infinite.
        tracker: where the training curve goes besides `metrics.jsonl`: `none`, `tensorboard`, `wandb` or a list.
    """

    command: ClassVar[str] = "train"
    held_in_memory: ClassVar[tuple[str, ...]] = (
        *("dict_size", "train.batch_size", "train.shuffle_buffer", "resample.inputs", "model_rows"),
    )

    sae: SaeConfig = MISSING
    train: TrainingConfig = settings(TrainingConfig)
    resample: ResampleConfig = settings(ResampleConfig)
    layer: int = number(at_least=-1, ordinal=True)
    dict_size: int = number(at_least=1)
    l1: float = number(at_least=0)
    k: int = number(32, at_least=1)
    tokens: int = number(at_least=1)
    seed: int = number(0, at_least=0, ordinal=True)
    activations: str | None = place(PathKind.here, None, execution=True)
    checkpoint: CheckpointConfig = settings(CheckpointConfig, execution=True)
    keep_checkpoints: bool = setting(False, execution=True)
    non_finite: NonFinite = NonFinite["raise"]
    tracker: NoneOrSeveral = setting(None, execution=True)

    def __post_init__(self) -> None:
        self.tracker = trackers(self.tracker)
        if self.resample.is_on and isinstance(self.sae, TopKSae):
            raise ValueError(
                f"{self.resample.asked}: sae={self.sae.architecture} revives dead features by its auxiliary "
                "loss (sae.aux_coefficient); resampling is for relu, gated and jump_relu"
            )

    @property
    def unused_sparsity(self) -> str:
        """The one of `l1` and `k` that this dictionary's sparsity does not follow from."""
        return "k" if self.sae.sparsity_setting() == "l1" else "l1"

    def run_name(self) -> RunName:
        where, shown = self.stream_part(self.layer)
        key = self.sae.sparsity_setting()
        sparsity = f"l1_{number_part(self.l1)}" if key == "l1" else f"k{self.k}"
        what = f"{self.sae.architecture}-F{self.dict_size}-{sparsity}-seed{self.seed}"
        return RunName(f"train/{where}", what, shown | {"sae.architecture", "dict_size", key, "seed"})

    def normalized(self, settings: Document) -> Document:
        kept = super().normalized(settings)
        del kept[self.unused_sparsity]
        if isinstance(self.sae, JumpReluSae) and self.sae.threshold_lr == self.train.lr:
            del kept["sae.threshold_lr"]  # as it was before thresholds had a learning rate of their own
        return kept

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        sae = self.sae
        yield Idle(self.unused_sparsity, f"with sae={sae.architecture}", f"give {sae.sparsity_setting()}=")
        yield Idle("sae.architecture", "by itself", f"give sae={sae.architecture}")
        yield from sae.idle_with(self.l1)
        if self.train.warmup_steps is not None:
            yield Idle("train.lr_warmup", "with train.warmup_steps=", "give train.warmup_steps=null with it")
        if Part.decoder in self.train.freeze:
            yield Idle("sae.decoder_fit", "with train.freeze=[decoder]", "leave it out")
            yield Idle("sae.decoder_cosine_floor", "with train.freeze=[decoder]", "leave it out")

    def contradictions(self) -> Iterator[str]:
        yield from self.too_few_tokens()
        if self.sae.sparsity_setting() == "k" and self.k > self.dict_size:
            yield f"k={self.k}: expected at most dict_size={self.dict_size}"
        yield from self.sae.contradictions(self.dict_size)
        if self.train.target_l0 is not None:
            yield from self._l0_without_control(self.train.target_l0)
        yield from self._what_is_held_and_moved()
        yield from self._units_without_scale()
        yield from self._steps_that_do_not_come()
        yield from super().contradictions()

    def _l0_without_control(self, target: float) -> Iterator[str]:
        """Why no coefficient can be moved until L0 is the target, if none can."""
        if not isinstance(self.sae, ReluSae | GatedSae):
            yield (
                f"train.target_l0={target:g}: sae={self.sae.architecture} has no L1 coefficient to move; give "
                f"{self.sae.sparsity_setting()}="
            )
        elif not self.l1:
            yield f"train.target_l0={target:g}: l1=0 is no coefficient to begin at; give l1="
        if target > self.dict_size:
            yield f"train.target_l0={target:g}: expected at most dict_size={self.dict_size}"

    def too_few_tokens(self) -> Iterator[str]:
        """That training would be over before its first step, if it would."""
        if self.tokens < (size := self.train.batch_size):
            yield f"tokens={self.tokens}: expected at least one batch, train.batch_size={size}"

    def final_fit(self) -> float:
        """Share of the steps, at the end, in which the decoder alone is trained, on frozen codes."""
        return 0.0 if Part.decoder in self.train.freeze else self.sae.final_fit()

    def _what_is_held_and_moved(self) -> Iterator[str]:
        """What is to stay as it begins, and to begin again or to be moved."""
        held = [f"train.freeze=[{each.value}]" for each in self.train.freeze]
        held += ["sae.decoder_cosine_floor="] if self.sae.decoder_cosine_floor is not None else []
        if held and self.resample.is_on:
            yield f"{self.resample.asked}: features would begin again in other directions, against {held[0]}"
        if Part.encoder in self.train.freeze and self.train.forbid_direction is not None:
            yield "train.forbid_direction= changes the encoder's rows, against train.freeze=[encoder]: leave one out"

    def _units_without_scale(self) -> Iterator[str]:
        """Settings that are in units of scaled activations, where these are not scaled."""
        if self.train.scale_activations:
            return
        if isinstance(self.sae, ReluSae | GatedSae) and self.sae.l1_units is L1Units.scaled:
            yield "train.scale_activations=false: l1 is in units of scaled activations; give sae.l1_units=raw_sum"
        if isinstance(self.sae, JumpReluSae):
            yield "train.scale_activations=false: thresholds of sae=jump_relu are in units of scaled activations"

    def _steps_that_do_not_come(self) -> Iterator[str]:
        """Those, and those at which features are not trained any more."""
        count = self.tokens // self.train.batch_size
        last = round(self.final_fit() * count)
        steps = f"tokens={self.tokens:,} make {count:,} steps of train.batch_size={self.train.batch_size:,}"
        for step in self.train.save_at:
            if not 1 <= step <= count:
                yield f"train.save_at: step {step}: expected 1 to {count}: {steps}"
        for step in self.resample.at:
            if not 1 <= step < count - last:
                fit = f", the last {last:,} of which fit the decoder to frozen codes" if last else ""
                yield f"resample.at: step {step}: expected 1 to {count - last - 1}: {steps}{fit}"
