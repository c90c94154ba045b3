"""The last phase of L1 training: the decoder is fitted to codes that no longer change.

An L1 penalty shrinks activations, so reconstructions come out too short. With the encoder frozen and the
penalty off, the decoder makes up for it; which features fire, and so L0, stays exactly as it was
(Wright & Sharkey 2024, "Addressing feature suppression in SAEs").
"""

from __future__ import annotations

from typing import NamedTuple

from sae_cli.tensor_types import Float, Tensor
from sae_cli.training.relu_l1 import Parameters, StepResult, count_positive


class FrozenEncoder(NamedTuple):
    """f = ReLU(W_enc x + offset): the encoder with `b_dec` folded in, so that `b_dec` is free to move."""

    W_enc: Float[Tensor, "F D"]
    offset: Float[Tensor, " F"]

    @classmethod
    def of(cls, parameters: Parameters) -> FrozenEncoder:
        return cls(parameters.W_enc.clone(), parameters.b_enc - parameters.W_enc @ parameters.b_dec)

    def step(self, W_dec: Float[Tensor, "F D"], b_dec: Float[Tensor, " D"], x: Float[Tensor, "N D"]) -> StepResult:
        """The mean squared error and its gradients; those of the encoder are zero."""
        f = (x @ self.W_enc.T).add_(self.offset).relu_()
        sum_f = f.sum(dim=0)
        error = (f @ W_dec).add_(b_dec).sub_(x)
        d_output = error * (2 / len(x))
        gradients = Parameters(
            W_enc=self.W_enc.new_zeros(()).expand_as(self.W_enc),
            b_enc=self.offset.new_zeros(()).expand_as(self.offset),
            W_dec=f.T @ d_output,
            b_dec=d_output.sum(dim=0),
        )
        return StepResult(
            gradients,
            squared_error=error.double().square_().sum().item(),
            l1=float(sum_f.double() @ W_dec.norm(dim=1).double()),
            l0=count_positive(f),
            fired=sum_f > 0,
        )

    def with_decoder(self, W_dec: Float[Tensor, "F D"], b_dec: Float[Tensor, " D"], unit: bool) -> Parameters:
        """The dictionary that has these codes and this decoder; with `unit` each row's norm goes to its feature."""
        norms = W_dec.norm(dim=1).clamp_min(1e-12) if unit else W_dec.new_ones(len(W_dec))
        return Parameters(
            W_enc=self.W_enc * norms[:, None],
            b_enc=(self.offset + self.W_enc @ b_dec) * norms,
            W_dec=W_dec / norms[:, None],
            b_dec=b_dec.clone(),
        )
