"""Defaults that depend on how long a run is.

What is tuned for the default run, of 750,000 tokens or 2,929 steps, is too fast for a much longer one: there the peak
learning rate, and the share of the steps over which it rises, fall with the fourth root of the number of steps. The
share that fits the decoder stays as it is. Measured in docs/training.md. What is asked for is never scaled.
"""

from __future__ import annotations

BY_STEPS = "by_steps"
"""The name of the resolver: `${by_steps:5.6e-3,${tokens},${train.batch_size}}`."""
TUNED_STEPS = 3_000
"""Runs of no more steps have the defaults as they are."""


def by_steps(value: float, tokens: int, batch_size: int) -> float:
    """A default for a run of so many tokens: times (3,000 / steps)^¼ where it has more than 3,000 steps."""
    steps = tokens // max(1, batch_size)
    return value * (TUNED_STEPS / steps) ** 0.25 if steps > TUNED_STEPS else value
