"""Resampling of dead features (Bricken et al. 2023, "Towards Monosemanticity", appendix on neuron resampling)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch

from sae_cli.dictionaries.objective import Objective
from sae_cli.seeds import generator
from sae_cli.state import State, number
from sae_cli.tensor_types import Bool, Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.training.adam import Adam
from sae_cli.training.schedules import warmup

ENCODER_NORM = 0.2
"""Of a resampled feature's encoder row, in units of the mean norm of those that are alive."""

_ENTRIES_AT_ONCE = 2**24


@dataclass(frozen=True, kw_only=True)
class ResamplePlan:
    """When and how dead features begin again.

    Attributes:
        at: numbers of steps done, ascending.
        inputs: how many of the most recent inputs losses are computed on.
        rewarm_steps: steps over which the learning rate rises from 0 afterwards.
        exempt_fraction: share of the features that are never resampled.
    """

    at: tuple[int, ...]
    inputs: int
    rewarm_steps: int
    exempt_fraction: float


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
        order = torch.randperm(n_features, generator=generator("exempt from resampling", seed))
        self.exempt = torch.zeros(n_features, dtype=torch.bool)
        self.exempt[order[: round(plan.exempt_fraction * n_features)]] = True
        self.exempt = self.exempt.to(device)
        self.resampled: list[Tensor] = []
        self._recent: deque[tuple[Tensor, Tensor]] = deque()
        self._none = tuple(torch.zeros(0, width, device=device) for width in widths)

    def is_due(self, steps_done: int) -> bool:
        return steps_done in self._plan.at

    def lr_factor(self, steps_done: int) -> float:
        """What the learning rate of the next step is multiplied by: whether or not there was a feature to resample,
        so that runs that resample others compare."""
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
        self, objective: Objective, adam: Adam, dead: Bool[Tensor, " F"], steps_done: int
    ) -> Bool[Tensor, " F"]:
        """Let dead features that are not exempt start anew; returns which they are.

        For each, an input is drawn with probability proportional to the square of its loss ‖y - ŷ‖². What was to be
        written for it, y - b_dec at length 1, is its decoder row; its encoder row has the direction of the input as
        the encoder sees it (of an autoencoder the same) and 0.2 times the mean norm of those that are alive. Biases and
        thresholds are what they were at the start, Adam's moments zero.
        """
        chosen = dead & ~self.exempt
        features = chosen.nonzero().squeeze(1)
        read, written = self._draw(objective, len(features), steps_done)
        if not len(read):  # no input has a loss
            chosen, features = torch.zeros_like(chosen), features[:0]
        alive = objective.W_enc if dead.all() else objective.W_enc[~dead]
        length = ENCODER_NORM * alive.norm(dim=1).mean()
        objective.reinitialize(features, W_enc=read * length, W_dec=written)
        adam.forget(objective.per_feature, features)
        self.resampled.append(chosen.cpu())
        console.log(f"step {steps_done:,}: resampled {len(features):,} of {int(dead.sum()):,} dead features")
        return chosen

    def _draw(self, objective: Objective, n: int, steps_done: int) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K E"]]:
        """Directions of n inputs, drawn by their loss, and of what was to be written; none if no input has a loss."""
        x, y = self._inputs()
        read, written = objective.centered(x, y)
        lengths = read.norm(dim=1)
        short = (lengths == 0) | (written.norm(dim=1) == 0)
        weights = (losses(objective, x, y).square() * ~short).cpu() if n else torch.zeros(len(x))
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
        if self._tied:
            return state
        written = torch.cat([self._none[1], *(written for _, written in self._recent)])
        return {**state, "written": written, "read_scale": number(self._scales[0])}

    def restore(self, state: State) -> None:
        scale, self.resampled = float(state["scale"]), list(state["resampled"])
        self._scales = float(state.get("read_scale", state["scale"])), scale
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
