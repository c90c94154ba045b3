"""The BatchTopK dictionary (Bussmann et al. 2024, "BatchTopK sparse autoencoders")."""

from __future__ import annotations

import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.topk import LargestObjective
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.state import State
from sae_cli.tensor_types import Float, Tensor

_DECAY = 0.97


class ThresholdDictionary(Dictionary):
    """f = pre where pre = W_enc (x - b_dec) + b_enc is above `threshold` [F], zero elsewhere."""

    tensor_names = (*Dictionary.tensor_names, "threshold")
    in_activation_units = Dictionary.in_activation_units | {"threshold"}
    per_feature = Dictionary.per_feature | {"threshold"}

    threshold: Float[Tensor, " F"]

    @classmethod
    def shapes(cls, n_features: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        return {**super().shapes(n_features, d_in, d_out), "threshold": (n_features,)}

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        pre = (self.centered(x) @ self.W_enc.T + self.b_enc).relu()
        return pre * (pre > self.threshold)


class BatchTopKDictionary(ThresholdDictionary):
    """In training the N·k largest of a batch of N tokens; afterwards those above one threshold."""

    architecture = "batch_topk"


class BatchTopKObjective(LargestObjective):
    """The N·k largest entries of a batch, so that `k` is an average over its tokens.

    The threshold for inference is the mean, over the last thirty steps or so, of the smallest activation that was
    kept: in a short training a longer mean would be of features that are no longer there.
    """

    dictionary = BatchTopKDictionary
    divisible = False

    def __init__(
        self,
        W_enc: Float[Tensor, "F D"],
        W_dec: Float[Tensor, "F E"],
        b_dec: Float[Tensor, " E"],
        unit_rows: bool,
        k: int,
        auxiliary: AuxiliaryLoss,
    ) -> None:
        super().__init__(W_enc, W_dec, b_dec, unit_rows, k, auxiliary)
        nothing = torch.zeros((), dtype=torch.float64, device=self.b_enc.device)
        self._smallest_sum, self._smallest_weight = nothing, nothing

    def _select(self, centered: Float[Tensor, "N D"], kernel: Kernel) -> Codes:
        codes = kernel.batch_top_k(centered, self.W_enc, self.b_enc, self.k)
        smallest = codes.smallest().double()
        some = smallest.isfinite()
        total, weight = self._smallest_sum, self._smallest_weight
        self._smallest_sum = torch.where(some, _DECAY * total + (1 - _DECAY) * smallest, total)
        self._smallest_weight = torch.where(some, _DECAY * weight + (1 - _DECAY), weight)
        return codes

    def remembered(self) -> dict[str, Tensor]:
        return {"_smallest_sum": self._smallest_sum, "_smallest_weight": self._smallest_weight}

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "smallest_sum": self._smallest_sum, "smallest_weight": self._smallest_weight}

    def restore(self, state: State) -> None:
        for name, tensor in super().state().items():
            tensor.copy_(state[name])
        device = self.b_enc.device
        self._smallest_sum = state["smallest_sum"].to(device)
        self._smallest_weight = state["smallest_weight"].to(device)

    @property
    def threshold(self) -> Float[Tensor, ""]:
        """The mean so far; 0 where nothing has been active."""
        return torch.where(self._smallest_weight > 0, self._smallest_sum / self._smallest_weight, 0.0)

    def tensors(self) -> dict[str, Tensor]:
        threshold = self.threshold.to(self.b_enc.dtype).expand_as(self.b_enc).clone()
        return {**super().tensors(), "threshold": threshold}
