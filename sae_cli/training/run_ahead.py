"""Steps that the host has launched and does not yet know the outcome of.

On a GPU the host launches several steps before the first of them has been made. What it wants to know of each, the sums
of its loss and whether there was room for all active entries, is copied to it meanwhile and read some steps later.
Where there was no room the device has left all parameters as they were, in that step and in all after it, until the
host has gone back and makes them again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from sae_cli.dictionaries.objective import BatchSums
from sae_cli.tensor_types import Float, Int, Tensor

if TYPE_CHECKING:
    from sae_cli.training.trainer import Trainer

LAG = 4
"""Steps that are launched before the first of them is looked at."""


class Outcome(NamedTuple):
    """What the host knows of a step.

    Attributes:
        squared_error, penalty, l0: sums over the batch (`BatchSums`).
        missed: there was no room for all entries, of it or of a step before it.
        found: how many entries there were, of each product.
    """

    squared_error: float
    penalty: float
    l0: int
    missed: bool = False
    found: Mapping[Hashable, int] = {}

    @property
    def loss(self) -> float:
        """The sum of the loss over the batch."""
        return self.squared_error + self.penalty


class Coming:
    """An outcome on its way to the host.

    Args:
        sums: of the step.
        missed: whether there was no room; None where there always is.
        found: how many entries there were.
    """

    def __init__(self, sums: BatchSums, missed: Tensor | None, found: Mapping[Hashable, Tensor]) -> None:
        self._keys = tuple(found)
        one = torch.zeros_like(sums.squared_error) if missed is None else missed
        numbers = torch.stack(
            [each.double() for each in (sums.squared_error, sums.penalty, sums.l0, one, *found.values())]
        )
        self._numbers, self._event = numbers, None
        if numbers.is_cuda:
            self._numbers = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            self._numbers.copy_(numbers, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()

    def outcome(self) -> Outcome:
        """Once it has arrived; waits until then."""
        if self._event:
            self._event.synchronize()
        squared_error, penalty, l0, missed, *found = self._numbers.numpy().tolist()
        counts = {key: int(count) for key, count in zip(self._keys, found, strict=True)}
        return Outcome(squared_error, penalty, int(l0), bool(missed), counts)


@dataclass(frozen=True)
class Launched:
    """A step that was launched.

    Attributes:
        x, y: its batch.
        number, tokens: steps and tokens before it.
        rise, progress: of the penalty and of the phase, after it.
        before: what it is to begin from if it is made again.
        coming: what has become of it.
    """

    x: Float[Tensor, "N D"]
    y: Float[Tensor, "N E"]
    number: int
    tokens: int
    rise: float
    progress: float
    before: Before
    coming: Coming


class Before(NamedTuple):
    """What a step replaces, beside parameters and moments.

    Attributes:
        adam_steps: that the optimizer has made.
        objective: of `Objective.remembered`.
        since_fired, activation_sum: of the trainer.
        density: of `DensityCounter.mark`.
    """

    adam_steps: int
    objective: Mapping[str, Tensor]
    since_fired: Int[Tensor, " F"]
    activation_sum: Float[Tensor, " E"]
    density: tuple[Int[Tensor, " F"], int, int]

    @classmethod
    def of(cls, trainer: Trainer) -> Before:
        """As it is now."""
        mark = trainer.objective.remembered(), trainer.tokens_since_fired, trainer.activation_sum
        return cls(trainer.adam.number, *mark, trainer.density.mark())


def go_back(trainer: Trainer, step: Launched) -> None:
    """Have a trainer be as it was before a step from which on parameters and moments have stayed as they were."""
    trainer.step_number, trainer.tokens, before = step.number, step.tokens, step.before
    trainer.adam.number, trainer.tokens_since_fired = before.adam_steps, before.since_fired
    trainer.activation_sum = before.activation_sum
    trainer.objective.recall(before.objective)
    trainer.density.go_back(before.density)
