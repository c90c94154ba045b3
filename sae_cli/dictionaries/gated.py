"""The gated dictionary (Rajamanoharan et al. 2024, "Improving dictionary learning with gated SAEs")."""

from __future__ import annotations

from collections.abc import Mapping

from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.objective import BatchSums, Objective, StepContext, gradient, squared_sum
from sae_cli.kernels.kernel import Kernel
from sae_cli.tensor_types import Float, Int, Tensor


class GatedDictionary(Dictionary):
    """One encoder, W_enc, for two questions: which features are active, and how strongly.

    π = W_enc (x - b_dec) + b_gate,  m = exp(r_mag) · W_enc (x - b_dec) + b_mag,  f = ReLU(m) where π > 0.
    """

    architecture = "gated"
    tensor_names = ("W_enc", "b_gate", "r_mag", "b_mag", "W_dec", "b_dec", "activation_mean")
    in_activation_units = Dictionary.in_activation_units | {"b_gate", "b_mag"}
    per_feature = frozenset({"W_enc", "b_gate", "r_mag", "b_mag", "W_dec"})

    b_gate: Float[Tensor, " F"]
    r_mag: Float[Tensor, " F"]
    b_mag: Float[Tensor, " F"]

    @classmethod
    def shapes(cls, n_features: int, d_in: int, d_out: int) -> dict[str, tuple[int, ...]]:
        base = super().shapes(n_features, d_in, d_out)
        return {name: base.get(name, (n_features,)) for name in cls.tensor_names}

    @property
    def encoder_bias(self) -> Float[Tensor, " F"]:
        return self.b_gate

    def encode(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N F"]:
        pre = self.centered(x) @ self.W_enc.T
        return (self.r_mag.exp() * pre + self.b_mag).relu() * (pre + self.b_gate > 0)


class GatedObjective(Objective):
    """‖x - x̂‖² + l1 · Σᵢ ReLU(πᵢ)‖dᵢ‖ + ‖x - W_decᵀ ReLU(π) - b_dec‖², the last with W_dec and b_dec held fixed.

    The gate itself has no gradient: π learns from the two last terms.

    Args:
        l1: coefficient of the penalty.
    """

    dictionary = GatedDictionary
    trained = ("W_enc", "b_gate", "r_mag", "b_mag", "W_dec", "b_dec")
    first_values: Mapping[str, float] = {"b_gate": 0.0, "r_mag": 0.0, "b_mag": 0.0}

    b_gate: Float[Tensor, " F"]
    r_mag: Float[Tensor, " F"]
    b_mag: Float[Tensor, " F"]

    def __init__(
        self,
        W_enc: Float[Tensor, "F D"],
        W_dec: Float[Tensor, "F E"],
        b_dec: Float[Tensor, " E"],
        unit_rows: bool,
        l1: float,
    ) -> None:
        super().__init__(W_enc, W_dec, b_dec, unit_rows)
        self.l1 = l1
        self._set(b_gate=self.b_enc, r_mag=self.b_enc, b_mag=self.b_enc)

    def fire_above(self, features: Int[Tensor, " K"], limits: Float[Tensor, " K"]) -> None:
        self.b_gate[features] = self.b_mag[features] = -limits

    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        n, l1 = context.batch_size, self.l1 * context.sparsity
        (centered, target), norms = self.centered(x, y), self.decoder_norms()
        gate = kernel.positive(centered, self.W_enc, self.b_gate)
        pi = gate.values
        gain, pre = gate.of_features(self.r_mag.exp()), pi - gate.of_features(self.b_gate)
        magnitude = gain * pre + gate.of_features(self.b_mag)
        f = magnitude.relu()
        error, along = kernel.residual(gate, f, self.W_dec, target)
        gate_error, gate_along = kernel.residual(gate, pi, self.W_dec, target)

        d_m = along.mul_(2 / n) * (magnitude > 0)
        d_pi = gate_along.mul_(2).add_(l1 * gate.of_features(norms)).div_(n)
        d_pre = d_m * gain + d_pi
        kernel.add_outer_sums(gate, d_pre, centered, gradient(self.W_enc))
        kernel.add_outer_sums(gate, f * (2 / n), error, gradient(self.W_dec))
        gradient(self.b_gate).add_(gate.column_sums(d_pi))
        gradient(self.b_mag).add_(gate.column_sums(d_m))
        gradient(self.r_mag).add_(gate.column_sums(d_m * gain * pre))
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=2 / n)
        self.add_center_gradient(gate.column_sums(d_pre))
        sum_pi = gate.column_sums(pi)
        if not self.unit_rows:
            gradient(self.W_dec).addcmul_(self.W_dec, (sum_pi / norms.clamp_min(1e-12))[:, None], value=l1 / n)
        penalty, count = l1 * (sum_pi.double() @ norms.double()) + squared_sum(gate_error), gate.counts(f)
        return BatchSums(squared_sum(error), penalty, l0=count.sum(), count=count)
