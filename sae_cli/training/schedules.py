"""Learning-rate and sparsity schedules, as factors of the peak."""

from __future__ import annotations


def warmup(step: int, steps: int, share: float) -> float:
    """Rises linearly to 1 over the first `share` of the steps (step counts from 0)."""
    return min(1.0, (step + 1) / max(1.0, share * steps))


def warmup_from_zero(step: int, rising: int) -> float:
    """Rises linearly from 0, at the first step of all, to 1 after `rising` steps."""
    return min(1.0, step / rising) if rising else 1.0


def warmup_then_decay(
    step: int, steps: int, warmup_share: float, decay_share: float, warmup_steps: int | None = None
) -> float:
    """`warmup`, or over a number of steps `warmup_from_zero`; constant, then linear to 0 over the last `decay_share` of
    the steps."""
    rising = warmup(step, steps, warmup_share) if warmup_steps is None else warmup_from_zero(step, warmup_steps)
    falling = (steps - step) / max(1.0, decay_share * steps)
    return min(rising, falling, 1.0)
