"""The one line for a training that has gone to infinity."""

from __future__ import annotations

from sae_cli.errors import JobError
from sae_cli.training.recipe import Recipe


def diverged(found: str, step: int, lr: float, recipe: Recipe) -> JobError:
    """What is not finite, where, and what to do.

    Args:
        found: what is not finite.
        step: steps done before.
        lr: the learning rate there.
        recipe: of the training.
    """
    clip = recipe.clip_grad_norm
    return JobError(
        f"{found} at step {step:,} of {recipe.steps:,}, at a learning rate of {lr:g}: lower train.lr= (now "
        f"{recipe.lr:g}), set train.clip_grad_norm= (now {'null' if clip is None else format(clip, 'g')}), or look in "
        "metrics.jsonl for where the loss begins to rise"
    )
