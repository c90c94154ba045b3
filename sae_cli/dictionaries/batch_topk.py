"""The BatchTopK dictionary (Bussmann et al. 2024, "BatchTopK sparse autoencoders")."""

from __future__ import annotations

import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.objective import BatchSums, Moment, Objective, gradient, squared_sum
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Tensor

_DECAY = 0.999


class ThresholdDictionary(Dictionary):
    """f = pre where pre = W_enc (x - b_dec) + b_enc is above `threshold` [F], zero elsewhere."""

    tensor_names = (*Dictionary.tensor_names, "threshold")
    in_activation_units = Dictionary.in_activation_units | {"threshold"}

    threshold: Tensor

    @classmethod
    def shapes(cls, n_features: int, width: int) -> dict[str, tuple[int, ...]]:
        return {**super().shapes(n_features, width), "threshold": (n_features,)}

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        pre = ((x - self.b_dec) @ self.W_enc.T + self.b_enc).relu()
        return pre * (pre > self.threshold)


class BatchTopKDictionary(ThresholdDictionary):
    """In training the N·k largest of a batch of N tokens; afterwards those above one threshold."""

    architecture = "batch_topk"


class BatchTopKObjective(Objective):
    """‖x - x̂‖² + auxiliary loss.

    The threshold for inference is the mean, over the last thousand steps or so, of the smallest activation that
    was kept.

    Args:
        k: active features a token, on average over a batch.
        auxiliary: revives dead features.
    """

    dictionary = BatchTopKDictionary
    divisible = False

    def __init__(
        self, W_enc: Tensor, W_dec: Tensor, b_dec: Tensor, unit_rows: bool, k: int, auxiliary: AuxiliaryLoss
    ) -> None:
        super().__init__(W_enc, W_dec, b_dec, unit_rows)
        self.k = k
        self.auxiliary = auxiliary
        self._smallest_sum, self._smallest_weight = 0.0, 0.0

    def accumulate(self, x: Float[Tensor, "N D"], kernel: Kernel, moment: Moment) -> BatchSums:
        centred = x - self.b_dec
        codes = kernel.batch_top_k(centred, self.W_enc, self.b_enc, self.k)
        self._note_smallest(codes)
        error, squared_error = self._add_reconstruction(codes, centred, kernel, moment)
        auxiliary = self.auxiliary.accumulate(self, centred, error, kernel, moment)
        return BatchSums(squared_error, auxiliary, l0=len(codes.values), fired=codes.fired())

    def _add_reconstruction(
        self, codes: Codes, centred: Float[Tensor, "N D"], kernel: Kernel, moment: Moment
    ) -> tuple[Float[Tensor, "N D"], float]:
        """Add the gradients of the squared error; returns x̂ - x and the sum of the loss over tokens."""
        error, along = kernel.residual(codes, codes.values, self.W_dec, centred)
        scale = 2 / moment.batch_size
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=scale)
        self.add_encoder_gradients(codes, along.mul_(scale), centred, kernel)
        kernel.add_outer_sums(codes, codes.values * scale, error, gradient(self.W_dec))
        return error, squared_sum(error)

    def _note_smallest(self, codes: Codes) -> None:
        if len(codes.values):
            self._smallest_sum = _DECAY * self._smallest_sum + (1 - _DECAY) * float(codes.values.min())
            self._smallest_weight = _DECAY * self._smallest_weight + (1 - _DECAY)

    @property
    def threshold(self) -> float:
        return self._smallest_sum / self._smallest_weight if self._smallest_weight else 0.0

    def tensors(self) -> dict[str, Tensor]:
        return {**super().tensors(), "threshold": torch.full_like(self.b_enc, self.threshold)}
