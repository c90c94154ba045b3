"""Training a dictionary further: its decoder alone, or all of it on the loss that it came from."""

from __future__ import annotations

from dataclasses import replace

import torch

from sae_cli import build
from sae_cli.activations.non_finite import usable_rows
from sae_cli.activations.source import ActivationSources
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.edits import Finetune
from sae_cli.config.settings import result_settings
from sae_cli.config.train import Part
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.frozen_codes import FrozenCodes
from sae_cli.dictionaries.objective import Objective, Start
from sae_cli.errors import RequestError
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal.progress import progress
from sae_cli.training.initialize import activation_scale
from sae_cli.training.recipe import recipe_of
from sae_cli.training.resampling import NO_RESAMPLING
from sae_cli.training.trainer import Trainer

_LR = 0.1  # of the run's own


_OFF = {"sparsity_warmup": 0.0, "decoder_fit": 0.0, "threshold_lr": None, "target_l0": None}
"""What a training has and fine-tuning has not."""


def finetuned(
    dictionary: Dictionary,
    trained_with: TrainConfig,
    what: Finetune,
    tokens: int,
    lr: float | None,
    device: torch.device,
    forbidden: Float[Tensor, " D"] | None = None,
) -> Dictionary:
    """The dictionary after `tokens` activations of its training data more.

    Args:
        dictionary: in raw units.
        trained_with: model, hook and text; for `all`, loss and coefficients too.
        what: is trained.
        tokens: activations, each once.
        lr: peak learning rate; None for a tenth of the run's own.
        device: where it is trained.
        forbidden: a unit direction that its encoder rows are orthogonal to and stay so; None for none.

    Raises:
        RequestError: `all` on a dictionary whose decoder was fitted with its codes frozen, what must not move, or less
            than a batch.
    """
    _refuse_to_move(trained_with, what)
    train = replace(trained_with.train, lr=trained_with.train.lr * _LR if lr is None else lr)
    k = min(trained_with.k, dictionary.n_features)
    config = replace(trained_with, dict_size=dictionary.n_features, tokens=tokens, k=k, train=train)
    if what is Finetune.all and dictionary.b_pre is not None:
        raise RequestError(
            "finetune=all: expected one bias for input and output, found two (the dictionary was recentered, or its "
            "decoder fine-tuned); use finetune=decoder"
        )
    source = ActivationSources(device).open(config, result_settings(config))
    sample = usable_rows(source.batches.sample, config.non_finite)
    read, written = source.columns.pair(sample)
    scales = [activation_scale(each) if config.train.scale_activations else 1.0 for each in (read, written)]
    in_training_units = dictionary.in_units_divided_by(1 / scales[0], 1 / scales[1]).to(device)

    def make(start: Start) -> Objective:
        if what is Finetune.decoder:
            return FrozenCodes(in_training_units)
        objective = build.objective(config, dictionary.d_out)(start)
        objective.start_from(in_training_units)
        return objective

    recipe = replace(recipe_of(config), resampling=NO_RESAMPLING, **_OFF)
    trainer = Trainer(recipe, make, read, device, forbidden, written)
    with progress(tokens, f"finetune {what.value}") as advance:
        for batch in source.batches:
            trainer.step(*source.columns.pair(usable_rows(batch, config.non_finite).to(device)))
            advance(len(batch))
            if trainer.step_number % config.train.log_every == 0:
                trainer.close_window()
    trainer.check_finite()
    return trainer.dictionary().replace(activation_mean=dictionary.activation_mean)


def _refuse_to_move(trained_with: TrainConfig, what: Finetune) -> None:
    """Refuse to move directions that training held, so that a frozen control stays one.

    Raises:
        RequestError: it would be done.
    """
    if what is Finetune.decoder and Part.decoder in trained_with.train.freeze:
        raise RequestError("finetune=decoder: the dictionary was trained with train.freeze=[decoder]; use finetune=all")
    if what is Finetune.all and (target := trained_with.train.target_l0) is not None:
        raise RequestError(
            f"finetune=all: the dictionary was trained with train.target_l0={target:g}, whose L1 coefficient is no "
            "setting; use finetune=decoder"
        )
    if (floor := trained_with.sae.decoder_cosine_floor) is not None:
        raise RequestError(
            f"finetune_tokens=: the dictionary was trained with sae.decoder_cosine_floor={floor:g}, and fine-tuning "
            "does not keep its rows near where they began; leave it out"
        )
