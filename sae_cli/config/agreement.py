"""Settings that contradict each other: seen in a configuration alone, before a model or a text is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sae_cli.config.commands import HarvestConfig, TrainConfig
from sae_cli.config.data import DataConfig, SyntheticData
from sae_cli.config.sae import MatryoshkaSae, ReluSae, group_sizes
from sae_cli.errors import RequestError


def check_agreement(config: Any) -> None:
    """Refuse a command's configuration that contradicts itself.

    Raises:
        RequestError: it does.
    """
    for complaint in _contradictions(config):
        raise RequestError(complaint)


def check_batches(config: TrainConfig) -> None:
    """Refuse a training that would be over before its first step.

    Raises:
        RequestError: it would.
    """
    if config.tokens < config.train.batch_size:
        size = config.train.batch_size
        raise RequestError(f"tokens={config.tokens}: expected at least one batch, train.batch_size={size}")


def _contradictions(config: Any) -> Iterator[str]:
    """For each, the setting, what was expected and what was found."""
    data = getattr(config, "data", None)
    if isinstance(config, TrainConfig):
        check_batches(config)
        yield from _of_the_dictionary(config)
        yield from _of_the_steps(config)
    if isinstance(data, DataConfig) and not isinstance(data, SyntheticData):
        yield from _of_the_text(data, held_out=not isinstance(config, HarvestConfig))


def _of_the_dictionary(config: TrainConfig) -> Iterator[str]:
    if config.sae.sparsity_setting() == "k" and config.k > config.dict_size:
        yield f"k={config.k}: expected at most dict_size={config.dict_size}"
    if isinstance(config.sae, MatryoshkaSae):
        fractions = config.sae.fractions
        if min(sizes := group_sizes(fractions, config.dict_size)) < 1:
            yield f"sae.fractions={list(fractions)}: too fine for dict_size={config.dict_size}: groups of {sizes}"


def _of_the_steps(config: TrainConfig) -> Iterator[str]:
    """Steps that do not come, or at which features are not trained any more."""
    count = config.tokens // config.train.batch_size
    last = round(config.sae.decoder_fit * count) if isinstance(config.sae, ReluSae) else 0
    steps = f"tokens={config.tokens:,} make {count:,} steps of train.batch_size={config.train.batch_size:,}"
    for step in config.train.save_at:
        if not 1 <= step <= count:
            yield f"train.save_at: step {step}: expected 1 to {count}: {steps}"
    for step in config.resample.at:
        if not 1 <= step < count - last:
            fit = f", the last {last:,} of which fit the decoder to frozen codes" if last else ""
            yield f"resample.at: step {step}: expected 1 to {count - last - 1}: {steps}{fit}"


def _of_the_text(data: DataConfig, held_out: bool) -> Iterator[str]:
    if data.context == 1:
        yield "data.context=1: expected at least 2 tokens a row, or 0 for the model's own context"
    if not data.held_out_fraction and held_out:
        yield (
            "data.held_out_fraction=0: expected above 0, because figures are measured on held-out documents; give a "
            "small share, as 0.01"
        )
