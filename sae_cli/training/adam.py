"""Adam over the parameters of an objective."""

from __future__ import annotations

import torch

from sae_cli.dictionaries.objective import Objective, gradient
from sae_cli.kernels.kernel import AdamStep, Kernel


class Adam:
    """Kingma & Ba 2015; decoder rows stay at norm 1 where the objective says so.

    Args:
        objective: whose parameters are trained.
        betas: decay rates of the two moments.
        clip: gradients whose norm, over all parameters together, is larger are scaled down to it; None for never.

    Attributes:
        moments: for each parameter the running means of the gradient and of its square.
        number: steps taken.
    """

    def __init__(self, objective: Objective, betas: tuple[float, float], clip: float | None = None) -> None:
        self._objective, self._betas, self._clip = objective, betas, clip
        self.moments = {
            name: (torch.zeros_like(parameter), torch.zeros_like(parameter))
            for name, parameter in objective.parameters.items()
        }
        self.number = 0

    def step(self, kernel: Kernel, lr: float) -> None:
        """Move the parameters against their gradients, which are then zero."""
        self.number += 1
        step = AdamStep(lr, self._betas, self.number, self._gradient_scale())
        for name, parameter in self._objective.parameters.items():
            unit_rows = self._objective.unit_rows and name == "W_dec"
            kernel.adam(parameter, gradient(parameter), self.moments[name], step, unit_rows)

    def _gradient_scale(self) -> float:
        if self._clip is None:
            return 1.0
        gradients = [gradient(parameter) for parameter in self._objective.parameters.values()]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        return min(1.0, self._clip / (norm + 1e-6))
