"""Resampling of dead features: when, which, and at what inputs they begin again; how is for `resample_rules`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from sae_cli.config.resample import SHARE, ResampledEncoder, ResampleRule
from sae_cli.dictionaries.objective import Objective
from sae_cli.seeds import generator
from sae_cli.state import State, below, number, of
from sae_cli.tensor_types import Bool, Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.training.adam import Adam
from sae_cli.training.aftermath import Aftermath
from sae_cli.training.resample_rules import RULES, active_counts, limits_for, median_count
from sae_cli.training.schedules import warmup

ENCODER_NORM = 0.2
"""Of a resampled feature's encoder row, in units of the mean norm, or the mean, of those that are alive."""

_ENTRIES_AT_ONCE = 2**24


@dataclass(frozen=True, kw_only=True)
class ResamplePlan:
    """When and how dead features begin again.

    Attributes:
        at: numbers of steps done, ascending.
        inputs: how many of the most recent inputs losses are computed on.
        rewarm_steps: steps over which the learning rate rises from 0 afterwards.
        exempt_fraction: share of the features that are never resampled.
        rule: how they begin again.
        encoder: what their encoder rows are; None for what the rule says.
        share: of the features that begin again at a time, by the rule `local`.
        dead_after: tokens without firing after which a feature is dead for a resampling; None for as ever.
    """

    at: tuple[int, ...]
    inputs: int
    rewarm_steps: int
    exempt_fraction: float
    rule: ResampleRule = ResampleRule.bricken2023
    encoder: ResampledEncoder | None = None
    share: float = SHARE
    dead_after: int | None = None


NO_RESAMPLING = ResamplePlan(at=(), inputs=0, rewarm_steps=0, exempt_fraction=0.0)


class Resampler:
    """Makes each dead feature begin again at an input that the dictionary reconstructs badly.

    Args:
        plan: when and how.
        n_features: F.
        widths: of what is read, and of what is written.
        seed: of the draws.
        scales: what brings both to the units of training.
        tied: whether what is read is what is written.
        device: where the dictionary is.

    Attributes:
        exempt: features that are never resampled [F].
        resampled: for each resampling so far, which features it was that began again [F].
        aftermath: what became of the others.
    """

    def __init__(
        self,
        plan: ResamplePlan,
        n_features: int,
        widths: tuple[int, int],
        seed: int,
        scales: tuple[float, float],
        tied: bool,
        device: torch.device,
    ) -> None:
        self._plan, self._seed, self._scales, self._tied = plan, seed, scales, tied
        self._rule = RULES[plan.rule]
        order = torch.randperm(n_features, generator=generator("exempt from resampling", seed))
        self.exempt = torch.zeros(n_features, dtype=torch.bool)
        self.exempt[order[: round(plan.exempt_fraction * n_features)]] = True
        self.exempt = self.exempt.to(device)
        self.resampled: list[Tensor] = []
        self.aftermath = Aftermath(n_features, device)
        self._began = torch.full((n_features,), -1, dtype=torch.int64, device=device)
        self._recent: deque[tuple[Tensor, Tensor]] = deque()
        self._none = tuple(torch.zeros(0, width, device=device) for width in widths)

    def is_due(self, steps_done: int) -> bool:
        return steps_done in self._plan.at

    def lr_factor(self, steps_done: int) -> float:
        """What the learning rate of the next step is multiplied by: whether or not there was a feature to resample,
        so that runs that resample others compare. By the rule `local` those that do not begin again learn on."""
        if self._rule.local:
            return 1.0
        since = [steps_done - at for at in self._plan.at if at <= steps_done]
        return warmup(min(since), self._plan.rewarm_steps, 1.0) if since else 1.0

    def remember(self, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], steps_done: int) -> None:
        """Keep a batch, and no more batches than `inputs` fill, if a resampling comes before they are replaced.

        Args:
            x, y: the batch, in raw units.
            steps_done: number of steps done before it.
        """
        coming = [at - steps_done for at in self._plan.at if at > steps_done]
        if not coming:
            self._recent.clear()
        elif (min(coming) - 1) * len(x) < self._plan.inputs:
            self._recent.append((x, y))
            while sum(len(read) for read, _ in self._recent) - len(self._recent[0][0]) >= self._plan.inputs:
                self._recent.popleft()

    def resample(
        self, objective: Objective, adam: Adam, dead: Bool[Tensor, " F"], steps_done: int, tokens: int = 0
    ) -> Bool[Tensor, " F"]:
        """Let dead features that are not exempt start anew; returns which they are.

        For each, an input is drawn, as the rule has it. What was to be written for it, at length 1, is its decoder row;
        its encoder row has the direction of the input (of an autoencoder the same) and 0.2 times the mean norm of those
        that are alive, or is 0.2 times the mean of those. Biases and thresholds are what they were at the start, but
        for the rule `local`; Adam's moments are zero.

        Args:
            objective: whose features they are.
            adam: what trains it.
            dead: which are dead [F].
            steps_done, tokens: done so far.
        """
        chosen = self._chosen(dead & ~self.exempt, steps_done)
        features = chosen.nonzero().squeeze(1)
        x, y = self._inputs()
        read, written = self._draw(objective, x, y, len(features), steps_done)
        if not len(read):  # no input has a loss
            chosen, features = torch.zeros_like(chosen), features[:0]
        before = active_counts(objective, x)
        objective.reinitialize(features, W_enc=self._encoder_rows(objective, dead, read), W_dec=written)
        if self._rule.local:
            limits = limits_for(objective.W_enc[features], objective.centered(x, x)[0], median_count(before, ~dead))
            objective.fire_above(features, limits)
            self._began[features] = steps_done
        forgotten = [each for each in objective.per_feature if each != "W_dec" or self._rule.forgets_decoder]
        adam.forget(forgotten, features)
        self.resampled.append(chosen.cpu())
        l0 = int(before.sum()) / len(x), int(active_counts(objective, x).sum()) / len(x)
        self.aftermath.begin(steps_done, tokens, l0, ~dead, chosen)
        console.log(
            f"step {steps_done:,}: resampled {len(features):,} of {int(dead.sum()):,} dead features; L0 of "
            f"{len(x):,} inputs is {l0[0]:.1f} before and {l0[1]:.1f} after"
        )
        return chosen

    def _chosen(self, dead: Bool[Tensor, " F"], steps_done: int) -> Bool[Tensor, " F"]:
        """Those of the dead features that begin again now: by the rule `local` at most a share, drawn at random."""
        most = max(1, round(self._plan.share * len(dead)))
        if not self._rule.local or int(dead.sum()) <= most:
            return dead
        order = torch.randperm(len(dead), generator=generator("first to be resampled", self._seed, steps_done))
        chosen = torch.zeros_like(dead)
        chosen[[each for each in order.tolist() if dead[each]][:most]] = True
        return chosen

    def _encoder_rows(
        self, objective: Objective, dead: Bool[Tensor, " F"], read: Float[Tensor, "K D"]
    ) -> Float[Tensor, "K D"]:
        """New encoder rows, given the directions of the inputs that were drawn."""
        alive = objective.W_enc if dead.all() else objective.W_enc[~dead]
        asked = self._plan.encoder
        if self._rule.mean_encoder if asked is None else asked is ResampledEncoder.mean_alive:
            return (ENCODER_NORM * alive.mean(dim=0)).expand_as(read)
        return read * (ENCODER_NORM * alive.norm(dim=1).mean())

    def slows(self, steps_done: int) -> bool:
        """Whether there can be features that go part of the way in the next step."""
        last = self._plan.rewarm_steps - 1
        return self._rule.local and any(at <= steps_done < at + last for at in self._plan.at)

    @contextmanager
    def slowed(self, objective: Objective, steps_done: int) -> Iterator[None]:
        """A step of the optimizer, of which features that have begun again by the rule `local` go only part of the way:
        1/n of it in the first of the n steps that they have to warm up, all of it in the last."""
        if not self.slows(steps_done):
            yield
            return
        factor = (steps_done + 1 - self._began) / max(1, self._plan.rewarm_steps)
        slow = ((self._began >= 0) & (factor < 1)).nonzero().squeeze(1)
        if not len(slow):
            yield
            return
        moved = {name: each for name, each in objective.parameters.items() if name in objective.per_feature}
        before = {name: parameter[slow] for name, parameter in moved.items()}
        yield
        for name, parameter in moved.items():
            rows = before[name]
            share = factor[slow].to(rows.dtype).reshape(-1, *[1] * (rows.ndim - 1))
            parameter[slow] = rows + share * (parameter[slow] - rows)
        if objective.unit_rows:
            objective.W_dec[slow] = torch.nn.functional.normalize(objective.W_dec[slow], dim=1)

    def _draw(
        self, objective: Objective, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"], n: int, steps_done: int
    ) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K E"]]:
        """Directions of n inputs, drawn by their loss, and of what was to be written; none if no input has a loss."""
        read, written = objective.centered(x, y) if self._rule.less_bias else (x, y)
        lengths = read.norm(dim=1)
        short = (lengths == 0) | (written.norm(dim=1) == 0)
        weights = (self._rule.weights(losses(objective, x, y)) * ~short).cpu() if n else torch.zeros(len(x))
        if not weights.any():
            return read[:0], written[:0]
        drawn = draw(weights, n, generator("resampled at", self._seed, steps_done)).to(x.device)
        directions = read[drawn] / lengths[drawn, None]
        if written is read:
            return directions, directions
        return directions, written[drawn] / written[drawn].norm(dim=1, keepdim=True)

    def _inputs(self) -> tuple[Float[Tensor, "M D"], Float[Tensor, "M E"]]:
        """The most recent inputs and what was to be written for them, in the units of training; one tensor for an
        autoencoder."""
        x = torch.cat([read for read, _ in self._recent])[-self._plan.inputs :] * self._scales[0]
        if self._tied:
            return x, x
        return x, torch.cat([written for _, written in self._recent])[-self._plan.inputs :] * self._scales[1]

    def state(self) -> dict[str, Tensor]:
        """What has been `resampled` [R, F], and the `recent` inputs [M, d_in], batch after batch of these `sizes`; of
        what is no autoencoder also what was to be written for them."""
        recent = torch.cat([self._none[0], *(read for read, _ in self._recent)])
        sizes = torch.tensor([len(read) for read, _ in self._recent], dtype=torch.int64)
        state = {"scale": number(self._scales[1]), "resampled": self._resampled(), "recent": recent, "sizes": sizes}
        if self._plan.at:
            state |= {"began": self._began, **below("aftermath", self.aftermath.state())}
        if self._tied:
            return state
        written = torch.cat([self._none[1], *(written for _, written in self._recent)])
        return {**state, "written": written, "read_scale": number(self._scales[0])}

    def restore(self, state: State) -> None:
        scale, self.resampled = float(state["scale"]), list(state["resampled"])
        self._scales = float(state.get("read_scale", state["scale"])), scale
        if self._plan.at:
            self._began = state["began"].to(self.exempt.device)
            self.aftermath.restore(of("aftermath", state))
        sizes = state["sizes"].tolist()
        read = state["recent"].to(self.exempt.device).split(sizes)
        written = state["written"].to(self.exempt.device).split(sizes) if not self._tied else read
        self._recent = deque(zip(read, written, strict=True))

    def _resampled(self) -> Bool[Tensor, "R F"]:
        if not self.resampled:
            return torch.zeros(0, len(self.exempt), dtype=torch.bool)
        return torch.stack(self.resampled)

    def tensors(self) -> dict[str, Tensor]:
        """For the record: `exempt` bool [F], `resample_step` int64 [R] and `resampled` bool [R, F]."""
        return {
            "exempt": self.exempt.cpu(),
            "resample_step": torch.tensor(self._plan.at[: len(self.resampled)], dtype=torch.int64),
            "resampled": self._resampled(),
        }


def draw(weights: Float[Tensor, " N"], n: int, numbers: torch.Generator) -> Int[Tensor, " K"]:
    """n independent draws of a position, each with probability proportional to its weight."""
    return torch.multinomial(weights, n, replacement=True, generator=numbers)


def losses(objective: Objective, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"]) -> Float[Tensor, " N"]:
    """‖y - ŷ‖² of each input, in float64."""
    dictionary = objective.dictionary({**objective.tensors(), "activation_mean": objective.b_dec})
    size = max(1, _ENTRIES_AT_ONCE // dictionary.n_features)
    parts = zip(x.split(size), y.split(size), strict=True)
    return torch.cat([(written - dictionary(read)).double().square().sum(dim=1) for read, written in parts])
