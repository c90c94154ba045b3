"""Sums of a training's loss between two lines of its curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sae_cli.state import State, number
from sae_cli.tensor_types import Tensor
from sae_cli.training.run_ahead import Outcome


@dataclass
class Window:
    """Sums since the training curve's last line, in scaled units."""

    tokens: int = 0
    squared_error: float = 0.0
    penalty: float = 0.0
    l0: int = 0

    def add(self, tokens: int, sums: Outcome) -> None:
        self.tokens += tokens
        self.squared_error += sums.squared_error
        self.penalty += sums.penalty
        self.l0 += sums.l0

    def state(self) -> dict[str, Tensor]:
        return {name: number(value) for name, value in vars(self).items()}

    @classmethod
    def of(cls, state: State) -> Window:
        """The window of this state."""
        values: dict[str, Any] = {name: tensor.item() for name, tensor in state.items()}
        return cls(**values)

    def line(self, variance: float, unit: float = 1.0) -> dict[str, float]:
        """Means over the window's tokens; `variance` is the mean of ‖x - x̄‖², `unit` what the loss is divided by."""
        mse = self.squared_error / self.tokens
        return {"loss": (mse + self.penalty / self.tokens) / unit, "fvu": mse / variance, "l0": self.l0 / self.tokens}
