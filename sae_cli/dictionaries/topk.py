"""The TopK dictionary (Gao et al. 2024, "Scaling and evaluating sparse autoencoders")."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.objective import BatchSums, Objective, StepContext, gradient, squared_sum
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Int, Tensor


class TopKDictionary(Dictionary):
    """f = the k largest of ReLU(W_enc (x - b_dec) + b_enc), zero elsewhere; `k` is a tensor [1] of its own."""

    architecture = "topk"
    tensor_names = (*Dictionary.tensor_names, "k")

    k: Int[Tensor, " 1"]

    @classmethod
    def shapes(cls, n_features: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        return {**super().shapes(n_features, d_in, d_out), "k": (1,)}

    @classmethod
    def complaint(cls, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
        k, n_features = float(tensors["k"]), len(tensors["W_enc"])
        return None if k in range(1, n_features + 1) else (f"a whole k from 1 to {n_features}", f"{k:g}")

    def keep(self, features: Int[Tensor, " K"]) -> Dictionary:
        kept = super().keep(features)
        return kept.replace(k=self.k.clamp_max(kept.n_features))

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        pre = (self.centered(x) @ self.W_enc.T + self.b_enc).relu()
        largest = pre.topk(int(self.k), dim=-1)
        return torch.zeros_like(pre).scatter_(-1, largest.indices, largest.values)


class LargestObjective(Objective):
    """‖x - x̂‖² + auxiliary loss, with some choice of the largest entries of ReLU(W_enc (x - b_dec) + b_enc).

    Args:
        k: active features a token.
        auxiliary: revives dead features.
    """

    def __init__(
        self,
        W_enc: Float[Tensor, "F D"],
        W_dec: Float[Tensor, "F E"],
        b_dec: Float[Tensor, " E"],
        unit_rows: bool,
        k: int,
        auxiliary: AuxiliaryLoss,
    ) -> None:
        super().__init__(W_enc, W_dec, b_dec, unit_rows)
        self.k = k
        self.auxiliary = auxiliary

    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        centered, target = self.centered(x, y)
        codes = self._select(centered, kernel)
        error, squared_error = self._add_reconstruction(codes, centered, target, kernel, context)
        auxiliary = self.auxiliary.accumulate(self, centered, error, kernel, context)
        return BatchSums(squared_error, auxiliary, l0=codes.number, count=codes.counts())

    @abstractmethod
    def _select(self, centered: Float[Tensor, "N D"], kernel: Kernel) -> Codes:
        """The entries that are active."""

    def _add_reconstruction(
        self,
        codes: Codes,
        centered: Float[Tensor, "N D"],
        target: Float[Tensor, "N E"],
        kernel: Kernel,
        context: StepContext,
    ) -> tuple[Float[Tensor, "N E"], Float[Tensor, ""]]:
        """Add the gradients of the squared error; returns ŷ - y and the sum of the loss over tokens."""
        error, along = kernel.residual(codes, codes.values, self.W_dec, target)
        scale = 2 / context.batch_size
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=scale)
        self.add_encoder_gradients(codes, along.mul_(scale), centered, kernel)
        kernel.add_outer_sums(codes, codes.values * scale, error, gradient(self.W_dec))
        return error, squared_sum(error)


class TopKObjective(LargestObjective):
    """The `k` largest entries of each token."""

    dictionary = TopKDictionary

    def _select(self, centered: Float[Tensor, "N D"], kernel: Kernel) -> Codes:
        return kernel.top_k(centered, self.W_enc, self.b_enc, self.k)

    def tensors(self) -> dict[str, Tensor]:
        return {**super().tensors(), "k": torch.tensor([float(self.k)])}
