"""Learning-rate and sparsity schedules, as factors of the peak."""

from __future__ import annotations


def warmup(step: int, steps: int, share: float) -> float:
    """Rises linearly to 1 over the first `share` of the steps (step counts from 0)."""
    return min(1.0, (step + 1) / max(1.0, share * steps))


def warmup_then_decay(step: int, steps: int, warmup_share: float, decay_share: float) -> float:
    """`warmup`, constant, then linear to 0 over the last `decay_share` of the steps."""
    falling = (steps - step) / max(1.0, decay_share * steps)
    return min(warmup(step, steps, warmup_share), falling, 1.0)
