"""What a resampling does to the features that were alive: how L0 jumps, and how many of them die afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sae_cli.documents import Document
from sae_cli.state import State
from sae_cli.tensor_types import Bool, Int, Tensor
from sae_cli.terminal import console

_NOT_YET = -1


@dataclass
class _After:
    """One resampling.

    Attributes:
        step, tokens: done before it.
        l0: mean number of active features of the recent inputs, before and after it.
        alive: features that were alive before it [F].
        lost: those of them that were dead again by a later one, and began again [F].
        died: how many of those alive have not fired in the `window` tokens after it; -1 until that is known.
    """

    step: int
    tokens: int
    l0: tuple[float, float]
    alive: Tensor
    lost: Tensor
    died: int = _NOT_YET
    window: int = _NOT_YET


class Aftermath:
    """Watches, after each resampling, whether the features that were alive before it fire in a window of tokens.

    Args:
        n_features: F.
        device: where features are counted.
    """

    def __init__(self, n_features: int, device: torch.device) -> None:
        self._n_features, self._device = n_features, device
        self._all: list[_After] = []

    def begin(
        self, step: int, tokens: int, l0: tuple[float, float], alive: Bool[Tensor, " F"], anew: Bool[Tensor, " F"]
    ) -> None:
        """Note a resampling: steps and tokens before it, L0 before and after it, which features were alive, and which
        begin anew."""
        for each in self._all:
            if each.died == _NOT_YET:
                each.lost |= each.alive & anew
        self._all.append(_After(step, tokens, l0, alive.clone(), torch.zeros_like(alive)))

    def is_due(self, tokens: int, window: int) -> bool:
        """Whether `watch` would count."""
        return any(each.died == _NOT_YET and tokens - each.tokens >= window for each in self._all)

    def watch(self, tokens: int, since_fired: Int[Tensor, " F"], window: int) -> None:
        """Count, where `window` tokens have passed since a resampling, the features that did not fire in them.

        Args:
            tokens: seen so far.
            since_fired: tokens since each feature fired last, or began again [F].
            window: tokens after which a feature counts as dead; 0 at the end, to count what there is.
        """
        for each in self._all:
            passed = tokens - each.tokens
            if each.died == _NOT_YET and passed >= window:
                died = each.alive & ((since_fired >= passed) | each.lost)
                each.died, each.window = int(died.sum()), passed
                console.log(
                    f"of {int(each.alive.sum()):,} features that were alive at the resampling after step "
                    f"{each.step:,}, {each.died:,} have not fired in the {passed:,} tokens since"
                )

    def watched(self, tokens: int, since_fired: Int[Tensor, " F"]) -> Aftermath:
        """This, once what there is at the end is counted."""
        self.watch(tokens, since_fired, 0)
        return self

    def facts(self) -> list[Document]:
        """A line for the manifest for each resampling."""
        return [
            {
                "step": each.step,
                "l0_before": each.l0[0],
                "l0_after": each.l0[1],
                "alive": int(each.alive.sum()),
                "died": each.died,
                "window_tokens": each.window,
            }
            for each in self._all
        ]

    def tensors(self) -> dict[str, Tensor]:
        """For the record: of `state` all but `tokens` and `lost`."""
        return {name: tensor for name, tensor in self.state().items() if name not in ("tokens", "lost")}

    def state(self) -> dict[str, Tensor]:
        """int64 [R] `step`, `tokens`, `died`, `window`; float64 `l0` [R, 2]; bool `alive` and `lost` [R, F]."""
        shape = (len(self._all), self._n_features)
        numbers = {
            name: torch.tensor([getattr(each, name) for each in self._all], dtype=torch.int64)
            for name in ("step", "tokens", "died", "window")
        }
        l0 = torch.tensor([each.l0 for each in self._all], dtype=torch.float64).reshape(-1, 2)
        masks = {
            name: torch.stack(rows).cpu() if rows else torch.zeros(shape, dtype=torch.bool)
            for name in ("alive", "lost")
            for rows in [[getattr(each, name) for each in self._all]]
        }
        return {**numbers, "l0": l0, **masks}

    def restore(self, state: State) -> None:
        """Take up the state of another."""
        self._all = [
            _After(
                int(step),
                int(tokens),
                (float(l0[0]), float(l0[1])),
                alive.to(self._device),
                lost.to(self._device),
                int(died),
                int(window),
            )
            for step, tokens, l0, alive, lost, died, window in zip(
                *(state[name] for name in ("step", "tokens", "l0", "alive", "lost", "died", "window")), strict=True
            )
        ]
