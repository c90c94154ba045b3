"""The JumpReLU dictionary (Rajamanoharan et al. 2024, "Jumping ahead")."""

from __future__ import annotations

import math
from typing import Literal

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.batch_topk import ThresholdDictionary
from sae_cli.dictionaries.objective import BatchSums, Objective, StepContext, gradient, squared_sum
from sae_cli.kernels.codes import Codes
from sae_cli.kernels.kernel import Kernel
from sae_cli.state import State
from sae_cli.tensor_types import Bool, Float, Int, Tensor

_RATE = 0.03
"""By how much of the excess of L0 the pressure grows in a step, at the end."""
_HELD_FROM = 0.85
"""Share of the steps after which thresholds are moved directly."""
_HOLD = 0.05
"""Logarithm by which they rise in a step, for twice the target."""


class JumpReluDictionary(ThresholdDictionary):
    """f = z where z = W_enc (x - b_dec) + b_enc is above the feature's threshold, zero elsewhere."""

    architecture = "jump_relu"


class JumpReluObjective(Objective):
    """‖x - x̂‖² + penalty, with θ trained through a straight-through estimator.

    The step at θ has the derivative of a ramp of width `bandwidth` around it, so θ learns from the entries
    whose pre-activation z lies within half of that. Penalties:

    * `l0_target`: coefficient · (L0 / target - 1)², L0 the batch's mean number of active features. This alone would
      end beside the target, where penalty and error balance. So its slope has a second term, which grows while L0 is
      above the target, and in the last 15 % of the steps the thresholds are moved themselves, those with most
      activations around them furthest. Where a batch has no pre-activation near any threshold, as where all begin too
      high, each is moved as if there was one;
    * `tanh`: coefficient · Σᵢ tanh(4 fᵢ‖dᵢ‖) (Anthropic, January 2025 update, without its term for dead features).

    Args:
        penalty: one of these names.
        coefficient: its weight.
        target: of `l0_target`.
        bandwidth: in units of activations scaled to norm √d.
        threshold: what every θ starts from, in the same units.
    """

    dictionary = JumpReluDictionary
    trained = (*Objective.trained, "log_threshold")

    log_threshold: Float[Tensor, " F"]

    def __init__(
        self,
        W_enc: Float[Tensor, "F D"],
        W_dec: Float[Tensor, "F E"],
        b_dec: Float[Tensor, " E"],
        unit_rows: bool,
        penalty: Literal["l0_target", "tanh"],
        coefficient: float,
        target: float,
        bandwidth: float,
        threshold: float,
    ) -> None:
        super().__init__(W_enc, W_dec, b_dec, unit_rows)
        self._set(log_threshold=torch.full_like(self.b_enc, threshold).log())
        self.first_values = {**self.first_values, "log_threshold": math.log(threshold)}
        self.penalty, self.coefficient, self.target, self.bandwidth = penalty, coefficient, target, bandwidth
        nothing = torch.zeros((), dtype=torch.float64, device=self.b_enc.device)
        self._l0, self._ramps = nothing, torch.zeros_like(self.b_enc)
        self._crowded = torch.ones_like(self.b_enc)
        self._pressure = nothing

    def fire_above(self, features: Int[Tensor, " K"], limits: Float[Tensor, " K"]) -> None:
        self.b_enc[features] = self.log_threshold[features].exp() - limits

    def accumulate(
        self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], kernel: Kernel, context: StepContext
    ) -> BatchSums:
        n, theta, half = context.batch_size, self.log_threshold.exp(), self.bandwidth / 2
        (centered, target), norms = self.centered(x, y), self.decoder_norms()
        # Entries from half a bandwidth below θ on, because those below it have a gradient too.
        near = kernel.positive(centered, self.W_enc, self.b_enc - theta + half)
        above = near.values - half
        active = above > 0
        f = (above + near.of_features(theta)) * active
        error, along = kernel.residual(near, f, self.W_dec, target)

        d_f = along.mul_(2 / n)
        penalty = torch.zeros_like(self._l0)
        if self.penalty == "tanh":
            weight, lengths = self.coefficient * context.sparsity, near.of_features(norms)
            squashed = torch.tanh(4 * f * lengths)
            d_squashed = weight / n * (1 - squashed.square()) * 4
            d_f = d_f + d_squashed * lengths
            penalty = weight * near.column_sums(squashed).double().sum()
            if not self.unit_rows:
                radial = near.column_sums(d_squashed * f) / norms.clamp_min(1e-12)
                gradient(self.W_dec).addcmul_(self.W_dec, radial[:, None])
        gradient(self.b_dec).add_(error.sum(dim=0), alpha=2 / n)
        self.add_encoder_gradients(near, d_f * active, centered, kernel)
        kernel.add_outer_sums(near, f * (2 / n), error, gradient(self.W_dec))
        self._add_threshold_gradients(near, d_f, above.abs() < half, theta)
        count = near.counts(f)
        self._l0 = self._l0 + count.sum()
        return BatchSums(squared_sum(error), penalty, l0=count.sum(), count=count)

    def _add_threshold_gradients(self, near: Codes, d_f: Tensor, in_window: Tensor, theta: Tensor) -> None:
        """∂f/∂θ = -θ/ε and ∂L0/∂θ = -1/ε in the window; times θ for log θ."""
        ramp = in_window / self.bandwidth
        gradient(self.log_threshold).sub_(theta.square() * near.column_sums(d_f * ramp))
        self._ramps = self._ramps + theta * near.column_sums(ramp)

    def finish_gradients(self, context: StepContext) -> None:
        if self.penalty == "l0_target":
            # Where nothing is near any threshold, nothing says where they are to go.
            self._ramps = torch.where(self._ramps.any(), self._ramps, self.log_threshold.exp() / self.bandwidth)
            pressure = self._l0 / context.batch_size / self.target - 1 + self._pressure
            slope = 2 * self.coefficient * context.sparsity * pressure / self.target / context.batch_size
            gradient(self.log_threshold).sub_(self._ramps * slope)
        self._l0 = torch.zeros_like(self._l0)
        self._crowded = (self._ramps / self._ramps.mean().clamp_min(1e-12)).clamp(0.05, 2)
        self._ramps = torch.zeros_like(self._ramps)

    def hold_sparsity(self, l0: Float[Tensor, ""], progress: float, moved: Bool[Tensor, ""]) -> None:
        if self.penalty != "l0_target" or not self.coefficient:
            return
        excess = l0 / self.target - 1
        self._pressure = (self._pressure + _RATE * progress * excess.clamp(-0.2, 0.2)).clamp_min(0)
        if progress > _HELD_FROM:
            self.log_threshold.add_(self._crowded * (_HOLD * excess.clamp(-0.5, 2) * moved))

    def remembered(self) -> dict[str, Tensor]:
        return {"_pressure": self._pressure}

    def state(self) -> dict[str, Tensor]:
        return {**super().state(), "pressure": self._pressure}

    def restore(self, state: State) -> None:
        for name, tensor in super().state().items():
            tensor.copy_(state[name])
        self._pressure = state["pressure"].to(self.b_enc.device)

    def start_from(self, dictionary: Dictionary) -> None:
        assert isinstance(dictionary, JumpReluDictionary)
        for name in Objective.trained:
            getattr(self, name).copy_(getattr(dictionary, name))
        self.log_threshold.copy_(dictionary.threshold.log())

    def tensors(self) -> dict[str, Tensor]:
        tensors = dict(super().tensors())
        return {**tensors, "threshold": tensors.pop("log_threshold").exp()}
