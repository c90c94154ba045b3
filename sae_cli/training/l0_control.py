"""A penalty that follows L0: its coefficient is moved until as many features fire as were asked for."""

from __future__ import annotations

import math

from sae_cli.state import State, number
from sae_cli.tensor_types import Tensor

_TIMES = 25
"""By how much the logarithm of the coefficient moves over the steps of a training where L0 is e times the target."""
_FASTEST = 0.05
"""In one step."""
_FROM = 0.05
"""Share of the steps before the first move: L0 says little until features have begun to differ."""
_FROM_RISE = 0.25
"""Least part of its rise that the penalty has made by then."""


class L0Control:
    """What the coefficient of a penalty is multiplied by.

    While the penalty still rises, L0 is expected to fall in proportion: the coefficient is already near where it has to
    be when it is all there, and is held there.

    Args:
        target: features that are to fire, a token; None leaves the coefficient alone.
        steps: of the phase in which there is a penalty.
    """

    def __init__(self, target: float | None, steps: int) -> None:
        self._target, self._rate = target, min(_FASTEST, _TIMES / max(1, steps))
        self._log_factor = 0.0

    @property
    def factor(self) -> float:
        """Of the coefficient."""
        return math.exp(self._log_factor)

    def observe(self, l0: float, rise: float, progress: float) -> None:
        """Called after each step.

        Args:
            l0: features that fired, a token of the batch.
            rise: the part of the penalty that is there, 0 to 1.
            progress: the share of the steps that are done.
        """
        if self._target is None or rise < _FROM_RISE or not _FROM <= progress <= 1:
            return
        excess = math.log(max(l0, 1e-3) * rise / self._target)
        self._log_factor += self._rate * max(-1.0, min(excess, 1.0))

    def facts(self, l1: float) -> dict[str, float]:
        """For the manifest: the coefficient that it has ended at, in the units in which it was given."""
        return {} if self._target is None else {"l1_at_end": l1 * self.factor}

    def state(self) -> dict[str, Tensor]:
        return {} if self._target is None else {"log_factor": number(self._log_factor)}

    def restore(self, state: State) -> None:
        if self._target is not None:
            self._log_factor = float(state["log_factor"])
