"""Defaults that depend on how long a run is.

What is tuned for the default run, of 750,000 tokens or 2,929 steps, is too fast and too rough for a longer one: there
peak learning rates, and the shares of the steps that go to warming up and to the decoder fit, fall with the square root
of the number of steps (so that what all steps together may move grows with it, as do the steps that go to either).
Figures are in docs/training.md. What is asked for is never scaled.
"""

from __future__ import annotations

BY_STEPS = "by_steps"
"""The name of the resolver: `${by_steps:5.6e-3,${tokens},${train.batch_size}}`."""
TUNED_STEPS = 3_000
"""Runs of no more steps have the defaults as they are."""


def by_steps(value: float, tokens: int, batch_size: int) -> float:
    """A default for a run of so many tokens: times √(3,000 / steps) where it has more than 3,000 steps."""
    steps = tokens // max(1, batch_size)
    return value * (TUNED_STEPS / steps) ** 0.5 if steps > TUNED_STEPS else value
