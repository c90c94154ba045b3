"""Defaults that depend on how long a run is, and on the device.

What is tuned for the default run, of 750,000 tokens or 2,929 steps, is too fast for a much longer one: there the peak
learning rate, and the share of the steps over which it rises, fall with the fourth root of the number of steps. The
share that fits the decoder stays as it is. Measured in docs/training.md. What is asked for is never scaled.

A GPU makes a step of 4,096 tokens in little more time than one of 256: its batches are as large as leaves 3,000 steps.
"""

from __future__ import annotations

from pathlib import Path

BY_STEPS = "by_steps"
"""The name of the resolver: `${by_steps:5.6e-3,${tokens},${train.batch_size}}`."""
TUNED_STEPS = 3_000
"""Runs of no more steps have the defaults as they are."""


def by_steps(value: float, tokens: int, batch_size: int) -> float:
    """A default for a run of so many tokens: times (3,000 / steps)^¼ where it has more than 3,000 steps."""
    steps = tokens // max(1, batch_size)
    return value * (TUNED_STEPS / steps) ** 0.25 if steps > TUNED_STEPS else value


BY_DEVICE = "by_device"
"""The name of the resolver: `${by_device:256,${tokens},${device}}`."""
LARGEST_BATCH = 4_096
"""Tokens of a default batch on a GPU."""
_GPU_DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/kfd"))


def by_device(batch_size: int, tokens: int, device: str) -> int:
    """A default number of tokens a step: on a GPU doubled up to 4,096, as long as 3,000 steps are left."""
    if not is_gpu(device):
        return batch_size
    while 2 * batch_size <= min(LARGEST_BATCH, tokens // TUNED_STEPS):
        batch_size *= 2
    return batch_size


def is_gpu(device: str) -> bool:
    """Whether a setting of `device` is a GPU; for `auto`, whether one is there, without loading what would use it."""
    return device.startswith("cuda") or (device == "auto" and any(driver.exists() for driver in _GPU_DRIVERS))
