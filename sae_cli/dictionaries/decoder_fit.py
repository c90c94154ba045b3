"""The last phase of L1 training: the decoder is fitted to codes that no longer change.

An L1 penalty shrinks activations, so reconstructions come out too short. With the encoder frozen and the
penalty off, the decoder makes up for it; which features fire, and so L0, stays exactly as it was
(Wright & Sharkey 2024, "Addressing feature suppression in SAEs").
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sae_cli.dictionaries.objective import BatchSums, Objective, StepContext, gradient, squared_sum
from sae_cli.dictionaries.relu import ReluDictionary, ReluObjective
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Tensor


class DecoderFit(Objective):
    """‖y - ŷ‖² as a function of W_dec and b_dec; f = ReLU(W_enc x + offset) with what is subtracted folded into it.

    Rows are free while they are fitted; where `start` keeps them at norm 1, each norm goes to its feature at
    the end, and so to its encoder row.

    Args:
        start: what was trained so far.
        keep_encoder: encoder rows stay as they are to the last bit, and decoder rows are left at the norms that they
            were fitted to.
    """

    dictionary = ReluDictionary
    trained = ("W_dec", "b_dec")

    def __init__(self, start: ReluObjective, keep_encoder: bool = False) -> None:
        self.unit_rows, self.unit_rows_at_end = False, start.unit_rows and not keep_encoder
        self.W_enc, self.b_pre = start.W_enc, start.b_pre
        self.offset = start.b_enc - start.W_enc @ start.center
        self._set(W_dec=start.W_dec, b_dec=start.b_dec)

    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        codes = kernel.positive(x, self.W_enc, self.offset)
        error = kernel.decode(codes, codes.values, self.W_dec).add_(self.b_dec).sub_(y)
        scale = 2 / context.batch_size
        kernel.add_outer_sums(codes, codes.values * scale, error, gradient(self.W_dec))
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=scale)
        squared_error = squared_sum(error)
        return BatchSums(squared_error, torch.zeros_like(squared_error), l0=codes.number, count=codes.counts())

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "W_enc": self.W_enc, "offset": self.offset}

    def tensors(self) -> Mapping[str, Tensor]:
        norms = self.W_dec.norm(dim=1).clamp_min(1e-12) if self.unit_rows_at_end else self.offset.new_ones(())
        norms = norms.expand(len(self.W_dec))
        tensors = {
            "W_enc": self.W_enc * norms[:, None],
            "b_enc": (self.offset + self.W_enc @ self.center) * norms,
            "W_dec": self.W_dec / norms[:, None],
            "b_dec": self.b_dec.clone(),
        }
        return tensors if self.b_pre is None else {**tensors, "b_pre": self.b_pre.clone()}
