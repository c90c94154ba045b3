"""What a training run will take: memory, disk, time."""

from __future__ import annotations

from sae_cli.config.commands.train import TrainConfig
from sae_cli.jobs.estimate import Estimate
from sae_cli.tensor_types import Float, Tensor
from sae_cli.training.trainer import Trainer


def estimate(trainer: Trainer, sample: Float[Tensor, "N D"], config: TrainConfig, filling: float) -> Estimate:
    """Made once the buffer is full, because then the speed of both halves has been measured."""
    batch = sample[: config.train.batch_size]
    step = trainer.time_of_a_step(batch)
    return Estimate(
        disk=disk_bytes(config, sample.shape[1]),
        memory=memory_bytes(config, sample.shape[1]),
        reading=filling * (config.tokens / len(sample) - 1),
        work=step * trainer.recipe.steps,
    )


def memory_bytes(config: TrainConfig, width: int) -> int:
    """Parameters, gradients and two moments; the shuffle buffer; kept inputs; a batch of codes and two like it."""
    codes = 3 * 4 * config.train.batch_size * config.dict_size
    held = _buffer_bytes(config, width) + _remembered_bytes(config, width)
    return 4 * _dictionary_bytes(config, width) + held + codes


def disk_bytes(config: TrainConfig, width: int) -> int:
    """The dictionary, its snapshots, the counts of each window, and two checkpoints: one stays until the next is
    there."""
    counts = 8 * config.train.density_windows * config.dict_size
    checkpoint = 3 * _dictionary_bytes(config, width) + _buffer_bytes(config, width) + _remembered_bytes(config, width)
    return _dictionary_bytes(config, width) * (1 + len(config.train.save_at)) + counts + 2 * checkpoint


def _buffer_bytes(config: TrainConfig, width: int) -> int:
    """The shuffle buffer."""
    return 4 * width * min(config.tokens, config.train.shuffle_buffer)


def _remembered_bytes(config: TrainConfig, width: int) -> int:
    """The inputs that are kept for resampling, in whole batches."""
    return 4 * width * (config.resample.inputs + config.train.batch_size) if config.resample.at else 0


def _dictionary_bytes(config: TrainConfig, width: int) -> int:
    """W_enc, W_dec, b_enc, b_dec and the mean activation, in float32."""
    return 4 * (2 * config.dict_size * width + config.dict_size + 2 * width)
