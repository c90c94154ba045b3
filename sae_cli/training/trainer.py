"""One dictionary in training: parameters in scaled units, optimiser, schedules, counters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sae_cli.config.sae import BiasInit, DecoderNorm
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.relu import ReluDictionary
from sae_cli.errors import JobError
from sae_cli.tensor_types import Float, Tensor
from sae_cli.training.decoder_fit import FrozenEncoder
from sae_cli.training.initialise import activation_scale, initial_decoder_bias, tied_directions, tied_encoder_scale
from sae_cli.training.relu_l1 import Parameters, StepResult, relu_l1_step, remove_radial_component
from sae_cli.training.schedules import warmup, warmup_then_decay


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a dictionary is trained; the fields are those of `sae_cli.config.train` and its neighbours."""

    dict_size: int
    l1: float
    steps: int
    lr: float
    betas: tuple[float, float]
    lr_warmup: float
    lr_decay: float
    l1_warmup: float
    decoder_fit: float
    decoder_norm: DecoderNorm
    b_dec_init: BiasInit
    dead_after: int
    seed: int

    @property
    def l1_steps(self) -> int:
        """Steps with the penalty; the rest fit the decoder to frozen codes."""
        return self.steps - round(self.decoder_fit * self.steps)


@dataclass
class Window:
    """Sums since the training curve's last line, in scaled units."""

    tokens: int = 0
    squared_error: float = 0.0
    l1: float = 0.0
    l0: int = 0

    def line(self, l1_coefficient: float, variance: float) -> dict[str, float]:
        """Means over the window's tokens; `variance` is the mean of ‖x - x̄‖²."""
        mse = self.squared_error / self.tokens
        return {
            "loss": mse + l1_coefficient * self.l1 / self.tokens,
            "fvu": mse / variance,
            "l0": self.l0 / self.tokens,
        }


class Trainer:
    """Trains one ReLU dictionary by batches.

    Activations are scaled so that their mean norm is √d, estimated with `b_dec` from `sample`; then an
    L1 coefficient means the same at every hook. `dictionary()` gives the result in raw units.
    """

    def __init__(self, recipe: Recipe, sample: Float[Tensor, "N D"], device: torch.device) -> None:
        self.recipe = recipe
        self.scale = activation_scale(sample)
        scaled = sample * self.scale
        self.variance = float((scaled - scaled.mean(dim=0)).double().square().sum(dim=1).mean())
        self.parameters = self._initial_parameters(scaled, device)
        self.optimizer = self._optimizer(self.parameters)
        self.frozen_encoder: FrozenEncoder | None = None
        self.step_number = 0
        self.tokens_since_fired = torch.zeros(recipe.dict_size, dtype=torch.int64, device=device)
        self.activation_sum = torch.zeros(sample.shape[1], dtype=torch.float64, device=device)
        self.tokens = 0
        self.window = Window()

    def _initial_parameters(self, scaled: Float[Tensor, "N D"], device: torch.device) -> Parameters:
        width = scaled.shape[1]
        directions = tied_directions(self.recipe.dict_size, width, self.recipe.seed)
        tensors = Parameters(
            W_enc=directions * tied_encoder_scale(self.recipe.dict_size, width),
            b_enc=torch.zeros(self.recipe.dict_size),
            W_dec=directions,
            b_dec=initial_decoder_bias(scaled, self.recipe.b_dec_init).cpu(),
        )
        return Parameters(*(tensor.to(device).requires_grad_(False) for tensor in tensors))

    def _optimizer(self, parameters: Sequence[Tensor]) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self.recipe.lr, betas=self.recipe.betas, fused=True)

    @property
    def fitting_decoder(self) -> bool:
        """Whether the last phase has been reached."""
        return self.step_number >= self.recipe.l1_steps

    @property
    def lr(self) -> float:
        r = self.recipe
        if self.fitting_decoder:
            return r.lr * max(0.0, (r.steps - self.step_number) / (r.steps - r.l1_steps))
        return r.lr * warmup_then_decay(self.step_number, r.l1_steps, r.lr_warmup, r.lr_decay)

    @property
    def l1(self) -> float:
        """The coefficient of the penalty at this step."""
        if self.fitting_decoder:
            return 0.0
        return self.recipe.l1 * warmup(self.step_number, self.recipe.l1_steps, self.recipe.l1_warmup)

    @torch.no_grad()
    def step(self, x: Float[Tensor, "N D"]) -> None:
        """One optimiser step on raw activations.

        Raises:
            JobError: the loss is no longer finite.
        """
        result = self._gradients(x * self.scale)
        if not torch.isfinite(torch.tensor(result.squared_error)):
            raise JobError(
                f"the loss is {result.squared_error} at step {self.step_number}: "
                f"lower train.lr (now {self.recipe.lr:g}) or look for non-finite activations"
            )
        self._update(result.gradients)
        self._count(x, result.fired)
        self.window.tokens += len(x)
        self.window.squared_error += result.squared_error
        self.window.l1 += result.l1
        self.window.l0 += result.l0
        self.step_number += 1

    @torch.no_grad()
    def time_of_a_step(self, x: Float[Tensor, "N D"]) -> float:
        """Seconds that the loss and its gradients take; nothing is changed."""
        x = x.to(self.parameters.b_dec.device) * self.scale
        relu_l1_step(self.parameters, x, self.l1)  # the first call is slower
        started = time.monotonic()
        relu_l1_step(self.parameters, x, self.l1)
        return time.monotonic() - started

    def _gradients(self, scaled: Float[Tensor, "N D"]) -> StepResult:
        if not self.fitting_decoder:
            return relu_l1_step(self.parameters, scaled, self.l1)
        if self.frozen_encoder is None:
            self.frozen_encoder = FrozenEncoder.of(self.parameters)
            self.optimizer = self._optimizer((self.parameters.W_dec, self.parameters.b_dec))
        return self.frozen_encoder.step(self.parameters.W_dec, self.parameters.b_dec, scaled)

    def _update(self, gradients: Parameters) -> None:
        unit = self.recipe.decoder_norm is DecoderNorm.unit and self.frozen_encoder is None
        W_dec = self.parameters.W_dec
        if unit:
            gradients = gradients._replace(W_dec=remove_radial_component(gradients.W_dec, W_dec))
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        self.optimizer.step()
        if unit:
            W_dec /= W_dec.norm(dim=1, keepdim=True)

    def _count(self, x: Float[Tensor, "N D"], fired: Tensor) -> None:
        self.tokens_since_fired = (self.tokens_since_fired + len(x)).masked_fill(fired, 0)
        self.activation_sum += x.sum(dim=0, dtype=torch.float64)
        self.tokens += len(x)

    @property
    def dead(self) -> int:
        """Features that have not fired for `dead_after` tokens."""
        return int((self.tokens_since_fired >= self.recipe.dead_after).sum())

    def close_window(self) -> dict[str, int | float]:
        """The training curve's next line."""
        line = self.window.line(self.l1, self.variance)
        self.window = Window()
        return {
            "step": self.step_number,
            "tokens": self.tokens,
            **line,
            "dead": self.dead,
            "lr": self.lr,
            "l1": self.l1,
        }

    def dictionary(self) -> Dictionary:
        """The dictionary in raw units: the scale folded in, decoder rows as they are."""
        mean = self.activation_sum / max(1, self.tokens) * self.scale
        parameters = self.parameters
        if self.frozen_encoder is not None:
            unit = self.recipe.decoder_norm is DecoderNorm.unit
            parameters = self.frozen_encoder.with_decoder(parameters.W_dec, parameters.b_dec, unit)
        tensors = {name: tensor.detach().clone() for name, tensor in parameters._asdict().items()}
        return ReluDictionary(tensors | {"activation_mean": mean.float()}).for_inputs_divided_by(self.scale)
