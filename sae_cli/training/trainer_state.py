"""A trainer as tensors, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sae_cli.state import State, below, check_like, number, of
from sae_cli.tensor_types import Tensor
from sae_cli.training.window import Window

if TYPE_CHECKING:
    from sae_cli.training.trainer import Trainer

_GROWING = {
    *(f"density.{name}" for name in ("count", "tokens", "step")),
    *(f"resampler.{name}" for name in ("resampled", "recent", "written", "sizes")),
    *(f"resampler.aftermath.{name}" for name in ("step", "tokens", "l0", "alive", "lost", "died", "window")),
}
"""What gets longer in the state of a trainer."""


def state_of(trainer: Trainer) -> dict[str, Tensor]:
    """All that training needs to go on from here; not copies."""
    read_scale = {} if trainer.objective.b_pre is None else {"read_scale": number(trainer.read_scale)}
    return {
        "step_number": number(trainer.step_number),
        "tokens": number(trainer.tokens),
        "scale": number(trainer.scale),
        **read_scale,
        "variance": number(trainer.variance),
        "tokens_since_fired": trainer.tokens_since_fired,
        "activation_sum": trainer.activation_sum,
        **below("window", trainer.window.state()),
        **{
            name: tensor for part, each in trainer.parts().items() for name, tensor in below(part, each.state()).items()
        },
    }


def restore(trainer: Trainer, state: State) -> None:
    """Bring a trainer to where another with the same recipe stood; any error where it is not one."""
    device = trainer.activation_sum.device
    trainer.step_number, trainer.tokens = int(state["step_number"]), int(state["tokens"])
    if not 0 <= trainer.step_number <= trainer.recipe.steps:
        raise ValueError(f"step {trainer.step_number:,} of {trainer.recipe.steps:,}")
    if trainer.fitting_decoder and "objective.offset" in state:
        trainer.begin_decoder_fit()
    check_like(state, state_of(trainer), _GROWING)
    trainer.scale, trainer.variance = float(state["scale"]), float(state["variance"])
    trainer.read_scale = float(state.get("read_scale", state["scale"]))
    if not trainer.fitting_decoder:
        trainer.convert_l1()
    trainer.tokens_since_fired = state["tokens_since_fired"].to(device)
    trainer.activation_sum = state["activation_sum"].to(device)
    trainer.window = Window.of(of("window", state))
    for part, each in trainer.parts().items():
        each.restore(of(part, state))
