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

    Attributes:
        moments: for each parameter the running means of the gradient and of its square.
        number: steps taken.
    """

    def __init__(self, objective: Objective, betas: tuple[float, float]) -> None:
        self._objective, self._betas = objective, betas
        self.moments = {
            name: (torch.zeros_like(parameter), torch.zeros_like(parameter))
            for name, parameter in objective.parameters.items()
        }
        self.number = 0

    def step(self, kernel: Kernel, lr: float) -> None:
        """Move the parameters against their gradients, which are then zero."""
        self.number += 1
        step = AdamStep(lr, self._betas, self.number)
        for name, parameter in self._objective.parameters.items():
            unit_rows = self._objective.unit_rows and name == "W_dec"
            kernel.adam(parameter, gradient(parameter), self.moments[name], step, unit_rows)
