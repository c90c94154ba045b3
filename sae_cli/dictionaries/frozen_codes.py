"""Training the decoder of any dictionary with every code as it is, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.objective import BatchSums, Objective, StepContext, gradient, squared_sum
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Tensor


class FrozenCodes(Objective):
    """‖y - ŷ‖² as a function of W_dec, whose rows are free, and b_dec; what the encoder subtracts becomes `b_pre`.

    Args:
        start: the dictionary as it is, in the units that it is trained in.
    """

    trained = ("W_dec", "b_dec")

    def __init__(self, start: Dictionary) -> None:
        self.start = start
        self.dictionary = type(start)
        self.unit_rows = False
        self._set(W_dec=start.W_dec, b_dec=start.b_dec)

    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        f = self.start.encode(x)
        error = (f @ self.W_dec).add_(self.b_dec).sub_(y)
        scale = 2 / context.batch_size
        gradient(self.W_dec).addmm_(f.T, error, alpha=scale)
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=scale)
        squared_error, count = squared_sum(error), (f > 0).sum(dim=0)
        return BatchSums(squared_error, torch.zeros_like(squared_error), l0=count.sum(), count=count)

    def tensors(self) -> Mapping[str, Tensor]:
        trained = {"W_dec": self.W_dec.detach().clone(), "b_dec": self.b_dec.detach().clone()}
        return {**self.start.tensors(), "b_pre": self.start.center, **trained}
