"""From the settings of `sae train` to how a dictionary is trained."""

from __future__ import annotations

from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.train import Part
from sae_cli.errors import RequestError
from sae_cli.training.resampling import ResamplePlan
from sae_cli.training.trainer import Recipe

_PARAMETERS = {Part.encoder: "W_enc", Part.decoder: "W_dec"}


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
