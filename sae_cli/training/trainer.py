"""One dictionary in training: its objective, optimizer, schedules, counters."""

from __future__ import annotations

import math
from collections import deque
from contextlib import nullcontext
from functools import reduce
from operator import add

import torch

from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.decoder_fit import DecoderFit
from sae_cli.dictionaries.objective import BatchSums, MakeObjective, Objective, StepContext
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.errors import JobError
from sae_cli.kernels.choice import KernelChoice
from sae_cli.kernels.kernel import Kernel
from sae_cli.state import State, Stateful
from sae_cli.tensor_types import Bool, Float, Tensor
from sae_cli.training.adam import Adam
from sae_cli.training.aftermath import Aftermath
from sae_cli.training.cone import Cone
from sae_cli.training.density import DensityCounter
from sae_cli.training.divergence import diverged
from sae_cli.training.forbidden import ForbiddenDirection
from sae_cli.training.initialize import beginning
from sae_cli.training.l0_control import L0Control
from sae_cli.training.recipe import Recipe
from sae_cli.training.resampling import Resampler
from sae_cli.training.run_ahead import LAG, Before, Coming, Launched, go_back
from sae_cli.training.schedules import warmup, warmup_then_decay
from sae_cli.training.trainer_state import restore, state_of
from sae_cli.training.units import LossUnits, loss_units
from sae_cli.training.window import Window

TRAINING, DECODER_FIT = "training", "decoder fit"
"""The phases: of most architectures there is but the first."""


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
        self.read_scale, self.scale, self.variance, start = beginning(recipe, sample, written)
        self.objective = make_objective(start := start.to(device))
        self.objective.b_pre = start.b_pre
        self._asked_l1, self.width = self.objective.l1, targets.shape[1]
        self.convert_l1()
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
        widths, scales, tied = (sample.shape[1], targets.shape[1]), (self.read_scale, self.scale), written is None
        plan, features = recipe.resampling, recipe.dict_size
        self.resampler = Resampler(plan, features, widths, recipe.seed, scales, tied, device)
        self.activation_sum = torch.zeros(targets.shape[1], dtype=torch.float64, device=device)
        self.tokens = 0
        self.window = Window()
        self._launched: deque[Launched] = deque()
        self._missed = torch.zeros((), dtype=torch.bool, device=device)

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
        return 0.0 if self.fitting_decoder else self._rise(self.step_number) * self.l0_control.factor

    def _rise(self, steps_done: int) -> float:
        return warmup(steps_done, self.recipe.main_steps, self.recipe.sparsity_warmup)

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
        while len(self._launched) >= LAG:
            self._look_at(self._launched.popleft())
        if self.resampler.is_due(self.step_number):
            self.settle()
            self._resample()
        if self.fitting_decoder:
            self.begin_decoder_fit()
        self._launch(x, y, self._runs_ahead)
        if self.resampler.aftermath.is_due(self.tokens, self._dead_for_resampling):
            self.settle()
            self.resampler.aftermath.watch(self.tokens, self.tokens_since_fired, self._dead_for_resampling)

    @property
    def _runs_ahead(self) -> bool:
        """Whether the host need not know what a step has come to before it launches the next."""
        waits = self.cone or self.recipe.target_l0 is not None or self.resampler.slows(self.step_number)
        return self.kernels.kernel.runs_ahead and not waits

    def _launch(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], ahead: bool) -> None:
        """Begin a step; it is looked at later if the host runs `ahead`, and else before parameters move."""
        kernel, n, number = self.kernels.kernel, len(x), self.step_number
        progress = (number + 1) / max(1, self.recipe.main_steps)
        with kernel.ahead(self._missed) if ahead else nullcontext({}) as found:
            before, sums = Before.of(self), self.add_gradients(self.objective, x, y)
            coming = Coming(sums, self._missed if ahead else None, found)
            step = Launched(x, y, number, self.tokens, self._rise(number + 1), progress, before, coming)
            if not ahead:
                self._look_at(step)
            self._move(kernel)
        self.objective.hold_sparsity(sums.l0.double() / n, progress, ~self._missed)
        if ahead:
            self._launched.append(step)
        self.step_number += 1
        self.tokens += n
        self.tokens_since_fired = (self.tokens_since_fired + n).masked_fill(sums.fired, 0)
        self.density.add(sums.count, n, self.step_number)
        self.activation_sum = self.activation_sum + y.sum(dim=0)

    def _move(self, kernel: Kernel) -> None:
        """Let the optimizer make its step."""
        if self.forbidden:
            self.forbidden.project_gradient(self.objective)
        own = {} if self.recipe.threshold_lr is None else {"log_threshold": self._scheduled(self.recipe.threshold_lr)}
        with self.resampler.slowed(self.objective, self.step_number):
            self.adam.step(kernel, self.lr, own)
        if self.forbidden:
            self.forbidden.project_rows(self.objective)
        if self.cone:
            self.cone.project_rows(self.objective.W_dec)

    def _look_at(self, step: Launched) -> None:
        """Take note of what a step has come to; go back to it if it was not made."""
        outcome, n, kernel = step.coming.outcome(), len(step.x), self.kernels.kernel
        kernel.learn(outcome.found)
        if outcome.missed:
            return self._make_again(step)
        if not math.isfinite(outcome.loss):
            raise self.diverged(f"the loss is {outcome.loss}", step.number)
        self.resampler.remember(step.x, step.y, step.number)
        self.window.add(n, outcome)
        self.l0_control.observe(outcome.l0 / n, step.rise, step.progress)
        self.kernels.observe(outcome.l0 / (n * self.recipe.dict_size))
        if self.kernels.kernel is not kernel:
            self.settle()
        return None

    def _make_again(self, step: Launched) -> None:
        """Go back to a step, and make it and those after it one by one."""
        steps = [step, *self._launched]
        self._launched.clear()
        self._missed.zero_()
        go_back(self, step)
        for each in steps:
            self._launch(each.x, each.y, ahead=False)

    def settle(self) -> None:
        """Wait until all steps have been made, and take note of them.

        Raises:
            JobError: the loss is no longer finite.
        """
        while self._launched:
            self._look_at(self._launched.popleft())
        self.density.to_host()

    def add_gradients(self, objective: Objective, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"]) -> BatchSums:
        """The batch's loss; its gradients are added to those that are there: none, but for a trial."""
        kernel = self.kernels.kernel
        context = StepContext(
            batch_size=len(x),
            sparsity=self.sparsity,
            dead=self.dead_features,
            may_be_dead=self.tokens >= self.recipe.dead_after,
        )
        at_once = kernel.rows_at_once(self.recipe.dict_size) if objective.divisible else None
        rows = at_once or len(x)
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

    def begin_decoder_fit(self) -> None:
        """Go over to the last phase, if there is one and it has not begun."""
        if isinstance(self.objective, ReluObjective):
            self.settle()
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

    def convert_l1(self) -> None:
        """Bring the L1 coefficient to the units of training."""
        if self._asked_l1:
            self.objective.l1 = self._asked_l1 * self.units.l1

    def check_finite(self) -> None:
        """See that what would be saved is finite; a finite loss does not show it, because most rows may be silent.

        Raises:
            JobError: a parameter is not.
        """
        self.settle()
        for name, parameter in {**self.objective.tensors(), "activation_mean": self.activation_sum}.items():
            if not parameter.isfinite().all():
                raise self.diverged(f"{name} is not finite")

    def diverged(self, found: str, step: int | None = None) -> JobError:
        """The one line for a training that has gone to infinity, in a step or by now."""
        return diverged(found, self.step_number if step is None else step, self.lr, self.recipe)

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
        self.settle()
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
        self.settle()
        return state_of(self)

    def restore(self, state: State) -> None:
        """Take up the state of a trainer with the same recipe; any error where it is not."""
        restore(self, state)

    def parts(self) -> dict[str, Stateful]:
        """What has a state of its own."""
        names = ("objective", "adam", "kernels", "density", "resampler", "l0_control")
        return {name: getattr(self, name) for name in names}

    def aftermath(self) -> Aftermath:
        """What became of the features that were alive at each resampling; of the last ones, up to now."""
        self.settle()
        return self.resampler.aftermath.watched(self.tokens, self.tokens_since_fired)

    def history(self) -> dict[str, Tensor]:
        """What `density_history.safetensors` holds: how often features fired, and which were resampled when."""
        self.settle()
        return {**self.density.tensors(), **self.resampler.tensors()}

    def dictionary(self) -> Dictionary:
        """The dictionary in raw units: the scale folded in, decoder rows as they are."""
        self.settle()
        mean = self.activation_sum / max(1, self.tokens) * self.scale
        tensors = {**self.objective.tensors(), "activation_mean": mean.float()}
        return self.objective.dictionary(tensors).in_units_divided_by(self.read_scale, self.scale)
