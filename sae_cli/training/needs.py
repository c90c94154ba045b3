"""What a training run will take: memory, disk, time."""

from __future__ import annotations

import copy
import time
from typing import NamedTuple

import torch

from sae_cli.activations.columns import Columns
from sae_cli.config.commands.train import TrainConfig
from sae_cli.dictionaries.objective import gradient
from sae_cli.jobs.estimate import Estimate
from sae_cli.tensor_types import Float, Tensor
from sae_cli.training.trainer import Trainer


class Widths(NamedTuple):
    """Numbers a token: those that a stream carries, and those of them that are read and written."""

    carried: int
    read: int
    written: int

    @classmethod
    def of(cls, columns: Columns, carried: int) -> Widths:
        return cls(carried, *columns.widths(carried))


def estimate(
    trainer: Trainer, sample: Float[Tensor, "N C"], columns: Columns, config: TrainConfig, filling: float
) -> Estimate:
    """Made once the buffer is full, because then the speed of both halves has been measured."""
    step = seconds_of_a_step(trainer, *columns.pair(sample[: config.train.batch_size]))
    widths = Widths.of(columns, sample.shape[1])
    return Estimate(
        disk=disk_bytes(config, widths),
        memory=memory_bytes(config, widths),
        reading=filling * (config.tokens / len(sample) - 1),
        work=step * trainer.recipe.steps,
    )


@torch.no_grad()
def seconds_of_a_step(trainer: Trainer, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"] | None = None) -> float:
    """What the loss of a batch of raw activations and its gradients take; nothing is changed."""
    trial = copy.copy(trainer.objective)  # with the same parameters and gradients, which are zero
    x = x.to(trainer.activation_sum.device)
    y = x if y is None else y.to(x.device)
    float(trainer.add_gradients(trial, x, y).squared_error)  # the first call is slower
    started = time.monotonic()
    float(trainer.add_gradients(trial, x, y).squared_error)
    seconds = time.monotonic() - started
    for parameter in trial.parameters.values():
        gradient(parameter).zero_()
    return seconds


def memory_bytes(config: TrainConfig, widths: Widths) -> int:
    """Parameters, gradients and two moments; the shuffle buffer; kept inputs; a batch of codes and two like it."""
    codes = 3 * 4 * config.train.batch_size * config.dict_size
    held = _buffer_bytes(config, widths) + _remembered_bytes(config, widths)
    return 4 * _dictionary_bytes(config, widths) + held + codes


def disk_bytes(config: TrainConfig, widths: Widths) -> int:
    """The dictionary, its snapshots, the counts of each window, and two checkpoints: one stays until the next is
    there."""
    counts = 8 * config.train.density_windows * config.dict_size
    checkpoint = (
        3 * _dictionary_bytes(config, widths) + _buffer_bytes(config, widths) + _remembered_bytes(config, widths)
    )
    return _dictionary_bytes(config, widths) * (1 + len(config.train.save_at)) + counts + 2 * checkpoint


def _buffer_bytes(config: TrainConfig, widths: Widths) -> int:
    """The shuffle buffer."""
    return 4 * widths.carried * min(config.tokens, config.train.shuffle_buffer)


def _remembered_bytes(config: TrainConfig, widths: Widths) -> int:
    """The inputs that are kept for resampling, in whole batches."""
    inputs = config.resample.inputs or config.train.batch_size
    return 4 * widths.carried * (inputs + config.train.batch_size) if config.resample.is_on else 0


def _dictionary_bytes(config: TrainConfig, widths: Widths) -> int:
    """W_enc, W_dec, b_enc, b_dec and the mean activation, in float32."""
    return 4 * (config.dict_size * (widths.read + widths.written + 1) + 2 * widths.written)
