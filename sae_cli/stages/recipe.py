"""From the settings of `sae train` to how a dictionary is trained."""

from __future__ import annotations

from sae_cli.config.commands import TrainConfig
from sae_cli.config.sae import GatedSae, JumpReluSae, ReluSae
from sae_cli.errors import RequestError
from sae_cli.training.resampling import ResamplePlan
from sae_cli.training.trainer import Recipe


def recipe_of(config: TrainConfig) -> Recipe:
    train = config.train
    steps = config.tokens // train.batch_size
    if steps < 1:
        raise RequestError(f"tokens={config.tokens}: expected at least one batch, train.batch_size={train.batch_size}")
    return Recipe(
        dict_size=config.dict_size,
        steps=steps,
        lr=train.lr,
        betas=(train.adam_beta1, train.adam_beta2),
        clip_grad_norm=train.clip_grad_norm,
        lr_warmup=train.lr_warmup,
        lr_decay=train.lr_decay,
        sparsity_warmup=config.sae.sparsity_warmup if isinstance(config.sae, ReluSae | GatedSae | JumpReluSae) else 0,
        decoder_fit=config.sae.decoder_fit if isinstance(config.sae, ReluSae) else 0,
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


def check_steps(config: TrainConfig, recipe: Recipe) -> None:
    """Refuse steps that do not come, or at which features are not trained any more."""
    steps = f"tokens={config.tokens:,} make {recipe.steps:,} steps of train.batch_size={config.train.batch_size:,}"
    for step in config.train.save_at:
        if not 1 <= step <= recipe.steps:
            raise RequestError(f"train.save_at: step {step}: expected 1 to {recipe.steps}: {steps}")
    for step in config.resample.at:
        if not 1 <= step < recipe.main_steps:
            rest = recipe.steps - recipe.main_steps
            fit = f", the last {rest:,} of which fit the decoder to frozen codes" if rest else ""
            raise RequestError(f"resample.at: step {step}: expected 1 to {recipe.main_steps - 1}: {steps}{fit}")
