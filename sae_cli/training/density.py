"""How often each feature fires, window by window, over the whole of training."""

from __future__ import annotations

import torch

from sae_cli.state import State, number
from sae_cli.tensor_types import Int, Tensor


def window_ends(steps: int, windows: int) -> list[int]:
    """Steps at which windows end: evenly spaced on a log scale from 1 to the last, as far as whole steps allow.

    There are as many as `windows`, or as there are steps.
    """
    left = min(windows, steps) - 1
    ends = [1] if left else []
    for remaining in range(left, 0, -1):
        ends.append(max(ends[-1] + 1, round(ends[-1] * (steps / ends[-1]) ** (1 / remaining))))
    return ends or [steps]


class DensityCounter:
    """Counts of F features in W windows that together cover all steps.

    Args:
        n_features: F.
        steps: of the whole training.
        windows: W, or as many as there are steps.
        device: where counts are summed.
    """

    def __init__(self, n_features: int, steps: int, windows: int, device: torch.device) -> None:
        self._ends = window_ends(steps, windows)
        self._current = torch.zeros(n_features, dtype=torch.int64, device=device)
        self._tokens = 0
        self._closed: list[tuple[Tensor, int, int]] = []

    def add(self, count: Int[Tensor, " F"], tokens: int, step: int) -> None:
        """Add a batch.

        Args:
            count: on how many of its tokens each feature fired.
            tokens: of the batch.
            step: number of steps done with it.
        """
        self._current = self._current + count
        self._tokens += tokens
        if len(self._closed) < len(self._ends) and step == self._ends[len(self._closed)]:
            self._closed.append((self._current, self._tokens, step))
            self._current, self._tokens = torch.zeros_like(self._current), 0

    def mark(self) -> tuple[Int[Tensor, " F"], int, int]:
        """Where it stands, for `go_back`."""
        return self._current, self._tokens, len(self._closed)

    def go_back(self, mark: tuple[Int[Tensor, " F"], int, int]) -> None:
        """Forget the batches that were added since."""
        self._current, self._tokens, closed = mark
        del self._closed[closed:]

    def to_host(self) -> None:
        """Move the windows that have ended to the host."""
        self._closed = [(count.cpu(), tokens, step) for count, tokens, step in self._closed]

    def tensors(self) -> dict[str, Tensor]:
        """The windows that have ended: `count` int64 [W, F], and int64 [W] `tokens` and `step`, the steps done at the
        end of each."""
        self.to_host()
        counts = [count for count, _, _ in self._closed]
        return {
            "count": torch.stack(counts) if counts else torch.zeros(0, len(self._current), dtype=torch.int64),
            "tokens": torch.tensor([tokens for _, tokens, _ in self._closed], dtype=torch.int64),
            "step": torch.tensor([step for _, _, step in self._closed], dtype=torch.int64),
        }

    def state(self) -> dict[str, Tensor]:
        """The windows that have ended, and `open_count` and `open_tokens` of the one that has not."""
        return {**self.tensors(), "open_count": self._current, "open_tokens": number(self._tokens)}

    def restore(self, state: State) -> None:
        self._current, self._tokens = state["open_count"].to(self._current.device), int(state["open_tokens"])
        ended = zip(state["count"], state["tokens"].tolist(), state["step"].tolist(), strict=True)
        self._closed = list(ended)
