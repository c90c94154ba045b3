"""The Matryoshka dictionary (Bussmann et al. 2025, "Learning multi-level features with Matryoshka SAEs")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch

from sae_cli.dictionaries.auxiliary import AuxiliaryLoss
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.batch_topk import BatchTopKObjective, ThresholdDictionary
from sae_cli.dictionaries.objective import StepContext, gradient, squared_sum
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Int, Tensor


class MatryoshkaDictionary(ThresholdDictionary):
    """A BatchTopK dictionary of which every prefix given by `group_sizes` [G] is a dictionary too."""

    architecture = "matryoshka"
    tensor_names = (*ThresholdDictionary.tensor_names, "group_sizes")

    group_sizes: Int[Tensor, " G"]

    @classmethod
    def complaint(cls, tensors: Mapping[str, Tensor]) -> tuple[str, str] | None:
        sizes, n_features = tensors["group_sizes"].double(), len(tensors["W_enc"])
        if sizes.ndim == 1 and (sizes >= 0).all() and (sizes == sizes.round()).all() and sizes.sum() == n_features:
            return None
        return f"group_sizes, whole numbers that sum to {n_features}", f"{sizes.numel()} that sum to {sizes.sum():g}"

    def keep(self, features: Int[Tensor, " K"]) -> Dictionary:
        kept = torch.zeros(self.n_features, device=features.device).index_fill(0, features, 1)
        sizes = [group.sum() for group in kept.split(self.group_sizes.int().tolist())]
        return super().keep(features).replace(group_sizes=torch.stack(sizes))


class MatryoshkaObjective(BatchTopKObjective):
    """The mean over prefixes of ‖x - x̂ of the prefix‖², + auxiliary loss.

    Args:
        group_sizes: features that each prefix has more than the one before; they sum to F.
    """

    dictionary = MatryoshkaDictionary

    def __init__(
        self,
        W_enc: Float[Tensor, "F D"],
        W_dec: Float[Tensor, "F E"],
        b_dec: Float[Tensor, " E"],
        unit_rows: bool,
        k: int,
        auxiliary: AuxiliaryLoss,
        group_sizes: Sequence[int],
    ) -> None:
        assert sum(group_sizes) == len(W_enc)
        super().__init__(W_enc, W_dec, b_dec, unit_rows, k, auxiliary)
        self.group_sizes = tuple(group_sizes)

    def _add_reconstruction(
        self,
        codes: Codes,
        centered: Float[Tensor, "N D"],
        target: Float[Tensor, "N E"],
        kernel: Kernel,
        context: StepContext,
    ) -> tuple[Float[Tensor, "N E"], Float[Tensor, ""]]:
        groups = self._groups(codes)
        errors, error, loss = [], -target, target.new_zeros((), dtype=torch.float64)
        for group, features, _ in groups:
            error = error + kernel.decode(group, group.values, self.W_dec[features])
            errors.append(error)
            loss = loss + squared_sum(error) / len(groups)

        # A feature works on the error of its own prefix and of all longer ones.
        d_pre, d_output = torch.empty_like(codes.values), torch.zeros_like(error)
        scale = 2 / context.batch_size / len(groups)
        for (group, features, chosen), error_of_prefix in zip(reversed(groups), reversed(errors), strict=True):
            d_output = d_output.add(error_of_prefix, alpha=scale)
            d_pre.masked_scatter_(chosen, kernel.products(group, d_output, self.W_dec[features]))
            kernel.add_outer_sums(group, group.values, d_output, gradient(self.W_dec)[features])
        gradient(self.b_dec).add_(d_output.sum(dim=0))
        self.add_encoder_gradients(codes, d_pre, centered, kernel)
        return error, loss

    def _groups(self, codes: Codes) -> list[tuple[Codes, slice, Tensor]]:
        """For each group its entries, its features, and which entries of `codes` they are."""
        ends = [*accumulate(self.group_sizes)]
        groups = []
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            part, chosen = codes.between(start, end)
            groups.append((part, slice(start, end), chosen))
        return groups

    def start_from(self, dictionary: Dictionary) -> None:
        assert isinstance(dictionary, MatryoshkaDictionary)
        super().start_from(dictionary)
        self.group_sizes = tuple(int(size) for size in dictionary.group_sizes)

    def tensors(self) -> dict[str, Tensor]:
        return {**super().tensors(), "group_sizes": torch.tensor(self.group_sizes, dtype=torch.float32)}
