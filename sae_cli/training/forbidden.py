"""A direction that the encoder cannot read: every encoder row is kept orthogonal to it."""

from __future__ import annotations

from sae_cli.dictionaries.objective import Objective, gradient
from sae_cli.tensor_types import Float, Tensor


class ForbiddenDirection:
    """Keeps an objective's W_enc in the subspace that is orthogonal to a direction.

    The gradient is that of the loss on this subspace; rows are put back after each step, because Adam's rates differ
    between coordinates. Targets and decoder rows are left alone.

    Args:
        direction: of norm 1 [d].
    """

    def __init__(self, direction: Float[Tensor, " D"]) -> None:
        self.direction = direction

    def project_gradient(self, objective: Objective) -> None:
        if "W_enc" in objective.trained:
            _remove(gradient(objective.W_enc), self.direction)

    def project_rows(self, objective: Objective) -> None:
        if "W_enc" in objective.trained:
            for _ in range(2):  # the second time removes what rounding has left
                _remove(objective.W_enc, self.direction)


def _remove(rows: Float[Tensor, "F D"], direction: Float[Tensor, " D"]) -> None:
    rows.addr_(rows @ direction, direction, alpha=-1)
