"""Adam over the parameters of an objective."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch

from sae_cli.dictionaries.objective import Objective, gradient
from sae_cli.kernels.kernel import AdamState, AdamStep, Kernel
from sae_cli.state import State, number
from sae_cli.tensor_types import Float, Int, Tensor


class Adam:
    """Kingma & Ba 2015; decoder rows stay at norm 1 where the objective says so.

    Args:
        objective: whose parameters are trained.
        betas: decay rates of the two moments.
        clip: gradients whose norm, over all parameters together, is larger are scaled down to it; None for never.
        frozen: names of parameters that are not moved.
        gradient_scale: what gradients are multiplied by before anything else: one over the unit of the loss.

    Attributes:
        states: each parameter with its gradient and the running means of that and of its square, by name.
        number: steps taken.
    """

    def __init__(
        self,
        objective: Objective,
        betas: tuple[float, float],
        clip: float | None = None,
        frozen: Collection[str] = (),
        gradient_scale: float = 1.0,
    ) -> None:
        self._unit_rows, self._betas, self._clip = objective.unit_rows, betas, clip
        self._scale = gradient_scale
        self.states = {
            name: AdamState(parameter, gradient(parameter), torch.zeros_like(parameter), torch.zeros_like(parameter))
            for name, parameter in objective.parameters.items()
            if name not in frozen
        }
        self._held = [parameter for name, parameter in objective.parameters.items() if name in frozen]
        self.number = 0

    def step(self, kernel: Kernel, lr: float, own: Mapping[str, float] | None = None) -> None:
        """Move the parameters against their gradients, which are then zero.

        Args:
            kernel: does so.
            lr: learning rate.
            own: learning rates of parameters, by name, that have one of their own.
        """
        self.number += 1
        step = AdamStep(lr, self._betas, self.number, self._scale)
        if self._clip is not None:
            clip = self._clip_factor(self._clip)
            # Read only where that is not to wait for the device.
            step = (
                step._replace(clip=clip)
                if kernel.runs_ahead
                else step._replace(gradient_scale=self._scale * float(clip))
            )
        rates = own or {}
        for parameter in self._held:
            gradient(parameter).zero_()
        for name, state in self.states.items():
            kernel.adam(state, step._replace(lr=rates.get(name, lr)), unit_rows=self._unit_rows and name == "W_dec")

    def forget(self, names: Iterable[str], features: Int[Tensor, " K"]) -> None:
        """Set the moments of these features' rows of these parameters to zero."""
        for state in (self.states[name] for name in names):
            state.mean[features] = 0
            state.square[features] = 0

    def state(self) -> dict[str, Tensor]:
        """`number`, and the `mean` and `square` of each parameter; gradients are zero between steps."""
        means = {f"mean.{name}": each.mean for name, each in self.states.items()}
        squares = {f"square.{name}": each.square for name, each in self.states.items()}
        return {"number": number(self.number), **means, **squares}

    def restore(self, state: State) -> None:
        self.number = int(state["number"])
        for name, each in self.states.items():
            each.mean.copy_(state[f"mean.{name}"])
            each.square.copy_(state[f"square.{name}"])

    def _clip_factor(self, clip: float) -> Float[Tensor, ""]:
        norm = torch.nn.utils.get_total_norm([state.gradient for state in self.states.values()])
        return (clip / (self._scale * norm.double() + 1e-6)).clamp_max(1).to(norm.dtype)
