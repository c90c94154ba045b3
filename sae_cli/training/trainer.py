"""One dictionary in training: its objective, optimizer, schedules, counters."""

from __future__ import annotations

import copy
import math
import time
from functools import reduce
from operator import add

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.decoder_fit import DecoderFit
from sae_cli.dictionaries.objective import BatchSums, MakeObjective, Objective, Start, StepContext, gradient
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.errors import JobError
from sae_cli.kernels.choice import KernelChoice
from sae_cli.state import State, Stateful, below, check_like, number, of
from sae_cli.tensor_types import Bool, Float, Tensor
from sae_cli.training.adam import Adam
from sae_cli.training.aftermath import Aftermath
from sae_cli.training.cone import Cone
from sae_cli.training.density import DensityCounter
from sae_cli.training.forbidden import ForbiddenDirection
from sae_cli.training.initialize import activation_scale, initial_decoder_bias, random_directions
from sae_cli.training.l0_control import L0Control
from sae_cli.training.recipe import Recipe
from sae_cli.training.resampling import Resampler
from sae_cli.training.schedules import warmup, warmup_then_decay
from sae_cli.training.units import LossUnits, loss_units
from sae_cli.training.window import Window

TRAINING, DECODER_FIT = "training", "decoder fit"
"""The phases: of most architectures there is but the first."""
_GROWING = {
    *(f"density.{name}" for name in ("count", "tokens", "step")),
    *(f"resampler.{name}" for name in ("resampled", "recent", "written", "sizes")),
    *(f"resampler.aftermath.{name}" for name in ("step", "tokens", "l0", "alive", "lost", "died", "window")),
}
"""What gets longer in the state of a trainer."""


class Trainer:
    """Trains one dictionary by batches of what it reads, x, and what it is to write, y: x itself for an autoencoder.

    Both are scaled so that their mean norm is √d, estimated with `b_dec` from a sample; then an L1 coefficient means
    the same at every hook. A recipe may leave them as they are. `dictionary()` gives the result in raw units.

    Args:
        recipe: how.
        make_objective: what.
        sample: activations that set the scale and `b_dec`.
        device: where.
        forbidden: a unit direction that encoder rows are kept orthogonal to; None for none.
        written: what is to be written for the sample; None, or the sample itself, for an autoencoder.
    """

    def __init__(
        self,
        recipe: Recipe,
        make_objective: MakeObjective,
        sample: Float[Tensor, "N D"],
        device: torch.device,
        forbidden: Float[Tensor, " D"] | None = None,
        written: Float[Tensor, "N E"] | None = None,
    ) -> None:
        self.recipe = recipe
        written = None if written is sample else written
        targets = sample if written is None else written
        self.read_scale = activation_scale(sample) if recipe.scale_activations else 1.0
        self.scale = activation_scale(targets) if recipe.scale_activations and written is not None else self.read_scale
        scaled = targets * self.scale
        self.variance = float((scaled - scaled.mean(dim=0)).double().square().sum(dim=1).mean())
        b_dec = initial_decoder_bias(scaled, recipe.b_dec_init)
        rows = random_directions(recipe.dict_size, targets.shape[1], recipe.seed)
        start = Start(rows, rows, b_dec)
        if written is not None:
            b_pre = initial_decoder_bias(sample * self.read_scale, recipe.b_dec_init)
            start = Start(random_directions(recipe.dict_size, sample.shape[1], recipe.seed), rows, b_dec, b_pre)
        self.objective = make_objective(start := start.to(device))
        self.objective.b_pre = start.b_pre
        self._asked_l1, self.width = self.objective.l1, targets.shape[1]
        self._convert_l1()
        self.forbidden = None if forbidden is None else ForbiddenDirection(forbidden.to(device))
        if self.forbidden:
            self.forbidden.project_rows(self.objective)
        floor = recipe.decoder_cosine_floor
        self.cone = None if floor is None else Cone(start.written, floor)
        self.adam = self._make_adam()
        self.kernels = KernelChoice(recipe.kernel, device, self.objective.W_dec.nbytes)
        self.l0_control = L0Control(recipe.target_l0, recipe.main_steps)
        self.step_number = 0
        self.tokens_since_fired = torch.zeros(recipe.dict_size, dtype=torch.int64, device=device)
        self.density = DensityCounter(recipe.dict_size, recipe.steps, recipe.density_windows, device)
        self.resampler = Resampler(
            recipe.resampling,
            recipe.dict_size,
            (sample.shape[1], targets.shape[1]),
            recipe.seed,
            (self.read_scale, self.scale),
            written is None,
            device,
        )
        self.activation_sum = torch.zeros(targets.shape[1], dtype=torch.float64, device=device)
        self.tokens = 0
        self.window = Window()

    @property
    def fitting_decoder(self) -> bool:
        """Whether the last phase has been reached."""
        return self.step_number >= self.recipe.main_steps

    @property
    def ends_phase(self) -> bool:
        """Whether the step that was made last was the last one on the objective, and the decoder fit comes next."""
        return self.step_number == self.recipe.main_steps < self.recipe.steps

    @property
    def lr(self) -> float:
        r = self.recipe
        if self.fitting_decoder:
            return r.lr * max(0.0, (r.steps - self.step_number) / max(1, r.steps - r.main_steps))
        return self._scheduled(r.lr)

    def _scheduled(self, peak: float) -> float:
        """A learning rate at this step, of the main phase."""
        r = self.recipe
        factor = warmup_then_decay(self.step_number, r.main_steps, r.lr_warmup, r.lr_decay, r.warmup_steps)
        return peak * factor * self.resampler.lr_factor(self.step_number)

    @property
    def sparsity(self) -> float:
        """What the penalty's coefficient is multiplied by at this step."""
        return 0.0 if self.fitting_decoder else self._rise * self.l0_control.factor

    @property
    def _rise(self) -> float:
        return warmup(self.step_number, self.recipe.main_steps, self.recipe.sparsity_warmup)

    @torch.no_grad()
    def step(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"] | None = None) -> None:
        """One step on a batch of raw activations: its loss and the gradients, the optimizer, the counts.

        Args:
            x: what is read.
            y: what is to be written; None for an autoencoder.

        Raises:
            JobError: the loss is no longer finite.
        """
        y = x if y is None else y
        if self.resampler.is_due(self.step_number):
            self._resample()
        if self.fitting_decoder:
            self._begin_decoder_fit()
        self.resampler.remember(x, y, self.step_number)

        sums = self._add_gradients(self.objective, x, y)
        loss = sums.squared_error + sums.penalty
        if not math.isfinite(loss):
            raise self.diverged(f"the loss is {loss}")

        if self.forbidden:
            self.forbidden.project_gradient(self.objective)
        own = {} if self.recipe.threshold_lr is None else {"log_threshold": self._scheduled(self.recipe.threshold_lr)}
        with self.resampler.slowed(self.objective, self.step_number):
            self.adam.step(self.kernels.kernel, self.lr, own)
        if self.forbidden:
            self.forbidden.project_rows(self.objective)
        if self.cone:
            self.cone.project_rows(self.objective.W_dec)
        self.kernels.observe(sums.l0 / (len(x) * self.recipe.dict_size))
        self.step_number += 1
        l0, progress = sums.l0 / len(x), self.step_number / max(1, self.recipe.main_steps)
        self.objective.hold_sparsity(l0, progress)
        self.l0_control.observe(l0, self._rise, progress)

        self.tokens += len(x)
        self.tokens_since_fired = (self.tokens_since_fired + len(x)).masked_fill(sums.fired, 0)
        self.resampler.aftermath.watch(self.tokens, self.tokens_since_fired, self._dead_for_resampling)
        self.density.add(sums.count, len(x), self.step_number)
        self.activation_sum += y.sum(dim=0)
        self.window.add(len(x), sums)

    def _add_gradients(self, objective: Objective, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"]) -> BatchSums:
        """The batch's loss; its gradients are added to those that are there: none, but for a trial."""
        kernel = self.kernels.kernel
        context = StepContext(batch_size=len(x), sparsity=self.sparsity, dead=self.dead_features)
        rows = kernel.rows_at_once if objective.divisible and kernel.rows_at_once else len(x)
        read = (x * self.read_scale).split(rows)
        written = read if y is x else (y * self.scale).split(rows)
        sums = reduce(add, (objective.accumulate(*part, kernel, context) for part in zip(read, written, strict=True)))
        objective.finish_gradients(context)
        return sums

    def _resample(self) -> None:
        """Dead features start anew before the next step, so that what is seen between steps is what training made."""
        dead = self.tokens_since_fired >= self._dead_for_resampling
        anew = self.resampler.resample(self.objective, self.adam, dead, self.step_number, self.tokens)
        self.tokens_since_fired.masked_fill_(anew, 0)
        if self.forbidden:
            self.forbidden.project_rows(self.objective)

    def _begin_decoder_fit(self) -> None:
        if isinstance(self.objective, ReluObjective):
            self.objective = DecoderFit(self.objective, keep_encoder="W_enc" in self.recipe.frozen)
            self.adam = self._make_adam()

    def _make_adam(self) -> Adam:
        r = self.recipe
        # Of activations as they are, the gradients are those of the loss as it is published.
        unit = self.units.loss if not r.scale_activations else 1.0
        return Adam(self.objective, r.betas, r.clip_grad_norm, r.frozen, 1 / unit)

    @property
    def units(self) -> LossUnits:
        """From the loss that the L1 coefficient was given for to that of training."""
        return loss_units(self.recipe.l1_units, self.scale, self.width)

    def _convert_l1(self) -> None:
        if self._asked_l1:
            self.objective.l1 = self._asked_l1 * self.units.l1

    def check_finite(self) -> None:
        """See that what would be saved is finite; a finite loss does not show it, because most rows may be silent.

        Raises:
            JobError: a parameter is not.
        """
        for name, parameter in {**self.objective.tensors(), "activation_mean": self.activation_sum}.items():
            if not parameter.isfinite().all():
                raise self.diverged(f"{name} is not finite")

    def diverged(self, found: str) -> JobError:
        """The one line for a training that has gone to infinity."""
        clip = self.recipe.clip_grad_norm
        return JobError(
            f"{found} at step {self.step_number:,} of {self.recipe.steps:,}, at a learning rate of {self.lr:g}: lower "
            f"train.lr= (now {self.recipe.lr:g}), set train.clip_grad_norm= "
            f"(now {'null' if clip is None else format(clip, 'g')}), or look in metrics.jsonl for where the loss "
            "begins to rise"
        )

    @torch.no_grad()
    def time_of_a_step(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"] | None = None) -> float:
        """Seconds that the loss and its gradients take; nothing is changed."""
        trial = copy.copy(self.objective)  # with the same parameters and gradients, which are zero
        x = x.to(self.activation_sum.device)
        y = x if y is None else y.to(x.device)
        self._add_gradients(trial, x, y)  # the first call is slower
        started = time.monotonic()
        self._add_gradients(trial, x, y)
        seconds = time.monotonic() - started
        for parameter in trial.parameters.values():
            gradient(parameter).zero_()
        return seconds

    @property
    def dead_features(self) -> Bool[Tensor, " F"]:
        """Which features have not fired for `dead_after` tokens."""
        return self.tokens_since_fired >= self.recipe.dead_after

    @property
    def _dead_for_resampling(self) -> int:
        """Tokens without firing after which a feature may be resampled."""
        return self.recipe.resampling.dead_after or self.recipe.dead_after

    @property
    def silent(self) -> dict[str, int]:
        """How many features are `dead`; before `dead_after` tokens, when none can be, how many have `never_fired`."""
        if self.tokens < self.recipe.dead_after:
            return {"never_fired": int((self.tokens_since_fired >= self.tokens).sum())}
        return {"dead": int(self.dead_features.sum())}

    def close_window(self) -> dict[str, int | float | str]:
        """The training curve's next line."""
        line = self.window.line(self.variance, self.units.loss)
        self.window = Window()
        return {
            "step": self.step_number,
            "tokens": self.tokens,
            "phase": DECODER_FIT if self.step_number > self.recipe.main_steps else TRAINING,
            **line,
            **self.silent,
            "lr": self.lr,
            "l1": self._asked_l1 * self.sparsity,
        }

    def state(self) -> dict[str, Tensor]:
        """All that training needs to go on from here as if it had not been stopped; the data have their own."""
        return {
            "step_number": number(self.step_number),
            "tokens": number(self.tokens),
            "scale": number(self.scale),
            **({} if self.objective.b_pre is None else {"read_scale": number(self.read_scale)}),
            "variance": number(self.variance),
            "tokens_since_fired": self.tokens_since_fired,
            "activation_sum": self.activation_sum,
            **below("window", self.window.state()),
            **{
                name: tensor
                for part, each in self._parts().items()
                for name, tensor in below(part, each.state()).items()
            },
        }

    def restore(self, state: State) -> None:
        """Take up the state of a trainer with the same recipe; any error where it is not."""
        device = self.activation_sum.device
        self.step_number, self.tokens = int(state["step_number"]), int(state["tokens"])
        if not 0 <= self.step_number <= self.recipe.steps:
            raise ValueError(f"step {self.step_number:,} of {self.recipe.steps:,}")
        if self.fitting_decoder and "objective.offset" in state:
            self._begin_decoder_fit()
        check_like(state, self.state(), _GROWING)
        self.scale, self.variance = float(state["scale"]), float(state["variance"])
        self.read_scale = float(state.get("read_scale", state["scale"]))
        if not self.fitting_decoder:
            self._convert_l1()
        self.tokens_since_fired = state["tokens_since_fired"].to(device)
        self.activation_sum = state["activation_sum"].to(device)
        self.window = Window.of(of("window", state))
        for part, each in self._parts().items():
            each.restore(of(part, state))

    def _parts(self) -> dict[str, Stateful]:
        return {
            "objective": self.objective,
            "adam": self.adam,
            "kernels": self.kernels,
            "density": self.density,
            "resampler": self.resampler,
            "l0_control": self.l0_control,
        }

    def aftermath(self) -> Aftermath:
        """What became of the features that were alive at each resampling; of the last ones, up to now."""
        self.resampler.aftermath.watch(self.tokens, self.tokens_since_fired, 0)
        return self.resampler.aftermath

    def history(self) -> dict[str, Tensor]:
        """What `density_history.safetensors` holds: how often features fired, and which were resampled when."""
        return {**self.density.tensors(), **self.resampler.tensors()}

    def dictionary(self) -> Dictionary:
        """The dictionary in raw units: the scale folded in, decoder rows as they are."""
        mean = self.activation_sum / max(1, self.tokens) * self.scale
        tensors = {**self.objective.tensors(), "activation_mean": mean.float()}
        return self.objective.dictionary(tensors).in_units_divided_by(self.read_scale, self.scale)
