"""From the settings of `sae train` to how a dictionary is trained."""

from __future__ import annotations

from dataclasses import dataclass

from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.sae import BiasInit
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
    resampling: ResamplePlan = NO_RESAMPLING

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
    steps = config.tokens // train.batch_size
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
        b_dec_init=config.sae.b_dec_init,
        dead_after=train.dead_after,
        kernel=train.kernel.value,
        seed=config.seed,
        density_windows=train.density_windows,
        resampling=ResamplePlan(
            at=tuple(config.resample.at),
            inputs=config.resample.inputs,
            rewarm_steps=config.resample.rewarm_steps,
            exempt_fraction=config.resample.exempt_fraction,
        ),
    )
