"""From the settings of `sae train` to how a dictionary is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.resample import ResampleRule
from sae_cli.config.sae import BiasInit, GatedSae, JumpReluSae, L1Units, ReluSae
from sae_cli.config.train import Part
from sae_cli.errors import RequestError
from sae_cli.training.resampling import NO_RESAMPLING, ResamplePlan

_PARAMETERS = {Part.encoder: "W_enc", Part.decoder: "W_dec"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a dictionary is trained; the fields are those of `sae_cli.config.train` and its neighbors."""

    dict_size: int
    steps: int
    lr: float
    betas: tuple[float, float]
    clip_grad_norm: float | None
    lr_warmup: float
    lr_decay: float
    sparsity_warmup: float
    decoder_fit: float
    b_dec_init: BiasInit
    dead_after: int
    kernel: str
    seed: int
    density_windows: int = 1
    frozen: tuple[str, ...] = ()
    decoder_cosine_floor: float | None = None
    target_l0: float | None = None
    resampling: ResamplePlan = NO_RESAMPLING
    warmup_steps: int | None = None
    scale_activations: bool = True
    l1_units: L1Units = L1Units.scaled
    threshold_lr: float | None = None

    @property
    def main_steps(self) -> int:
        """Steps on the objective; the rest fit the decoder to frozen codes."""
        return self.steps - round(self.decoder_fit * self.steps)


def recipe_of(config: TrainConfig) -> Recipe:
    """What a training does.

    Raises:
        RequestError: it would be over before its first step.
    """
    for complaint in config.too_few_tokens():
        raise RequestError(complaint)
    train = config.train
    sae, steps = config.sae, config.tokens // train.batch_size
    return Recipe(
        dict_size=config.dict_size,
        steps=steps,
        lr=train.lr,
        betas=(train.adam_beta1, train.adam_beta2),
        clip_grad_norm=train.clip_grad_norm,
        lr_warmup=train.lr_warmup,
        lr_decay=train.lr_decay,
        sparsity_warmup=config.sae.penalty_rise(),
        decoder_fit=config.final_fit(),
        frozen=tuple(_PARAMETERS[each] for each in train.freeze),
        decoder_cosine_floor=config.sae.decoder_cosine_floor,
        target_l0=train.target_l0,
        b_dec_init=config.sae.b_dec_init,
        dead_after=train.dead_after,
        kernel=train.kernel.value,
        seed=config.seed,
        density_windows=train.density_windows,
        resampling=_resampling(config, steps),
        warmup_steps=train.warmup_steps,
        scale_activations=train.scale_activations,
        l1_units=sae.l1_units if isinstance(sae, ReluSae | GatedSae) else L1Units.scaled,
        threshold_lr=sae.threshold_lr if isinstance(sae, JumpReluSae) else None,
    )


def resampling_steps(at: Iterable[int], every: int | None, count: int) -> tuple[int, ...]:
    """The numbers of steps done after which features are resampled, ascending: those given, and multiples of `every`
    below `count`, the number of steps that train features."""
    return tuple(sorted({*at, *(range(every, count, every) if every else ())}))


def _resampling(config: TrainConfig, steps: int) -> ResamplePlan:
    asked, batch = config.resample, config.train.batch_size
    # In the code of Marks 2023 a feature is dead that does not fire after step every // 2, counted from 0, of a period.
    half = (asked.every - 1 - asked.every // 2) * batch if asked.every else 0
    return ResamplePlan(
        at=resampling_steps(asked.at, asked.every, steps - round(config.final_fit() * steps)),
        inputs=asked.inputs or batch,
        rewarm_steps=asked.rewarm_steps,
        exempt_fraction=asked.exempt_fraction,
        rule=asked.rule,
        encoder=asked.encoder,
        share=asked.share,
        dead_after=half if asked.rule is ResampleRule.marks2023 and half else None,
    )


def beyond(config: TrainConfig) -> Iterator[str]:
    """What a run is too short for."""
    steps, rising = config.tokens // config.train.batch_size, config.train.warmup_steps
    if rising is not None and rising > steps:
        yield f"train.warmup_steps={rising:,}: the run has {steps:,} steps, and the learning rate stays below train.lr"
    every = config.resample.every
    if every and not resampling_steps(config.resample.at, every, steps):
        yield f"resample.every={every:,}: the run has {steps:,} steps, and nothing is resampled"
