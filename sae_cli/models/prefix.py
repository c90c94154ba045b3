"""What a forward pass computes before a site, kept from one pass over some rows and put into later ones.

Passes that differ only in what stands at one site differ only after it. Modules that are done when the site is
reached are not run again: they give what they gave the first time. Which modules these are is seen, not known, so
it holds for every architecture.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sae_cli.models.hooks import Tap, visiting
from sae_cli.tensor_types import Rows

_Kept = dict[nn.Module, list[Any]]
"""What modules have returned, in the order of their calls."""


class Prefix:
    """The part of a model's forward pass before a place in it.

    Args:
        hf: the transformers model.
        run: a forward pass over rows of tokens [B, T].
        tap: the place.
        blocks: each reads nothing but the output of the one before; empty where that is not known.
        written_over: whether the model may write into what modules have returned, so that copies are kept.
    """

    def __init__(
        self,
        hf: nn.Module,
        run: Callable[[Rows], object],
        tap: Tap,
        blocks: Sequence[nn.Module] = (),
        written_over: bool = False,
    ) -> None:
        self._calls = _calls_before(hf, run, tap)
        # The outputs of blocks before the last of these are read by the next block only, which is not run.
        done = [each for each in blocks if each in self._calls]
        self._passed_over = dict.fromkeys(done[:-1], done[-1]) if done else {}
        self._copy: Callable[[Any], Any] = _copied if written_over else _itself

    @contextmanager
    def kept(self) -> Iterator[_Kept]:
        """Within it, a forward pass leaves what it computes before the site."""
        kept: _Kept = {module: [] for module in self._calls if module not in self._passed_over}
        with ExitStack() as stack:
            for module, outputs in kept.items():
                hook = partial(_keep, outputs, self._calls[module], self._copy)
                stack.callback(module.register_forward_hook(hook).remove)
            yield kept

    @contextmanager
    def put_in(self, kept: _Kept) -> Iterator[None]:
        """Within it, one forward pass over the same rows begins at the site."""
        with ExitStack() as stack:
            for module in self._calls:
                outputs = deque(kept[self._passed_over.get(module, module)])
                stack.callback(_restore, module)
                module.forward = partial(_give, outputs, self._copy, module.forward)
            yield


def _calls_before(hf: nn.Module, run: Callable[[Rows], object], tap: Tap) -> dict[nn.Module, int]:
    """The outermost modules that have been left when a forward pass reaches the place, and how often each was."""
    done: dict[nn.Module, int] = {}
    reached = False

    def leave(module: nn.Module, *_: Any) -> None:
        if not reached:
            calls = done.get(module, 0)
            for inside in module.modules():
                done.pop(inside, None)
            done[module] = calls + 1

    def reach(activations: Tensor) -> Tensor:
        nonlocal reached
        reached = True
        return activations

    with ExitStack() as stack:
        for module in hf.modules():
            stack.callback(module.register_forward_hook(leave).remove)
        rows = torch.zeros(1, 2, dtype=torch.long, device=next(hf.parameters()).device)
        with torch.no_grad(), visiting([(tap, reach)], rows.shape):
            run(rows)
    return done


def _keep(
    outputs: list[Any],
    calls: int,
    copy: Callable[[Any], Any],
    module: nn.Module,
    inputs: tuple[Any, ...],
    output: Any,
) -> None:
    if len(outputs) < calls:  # it may be called after the site too
        outputs.append(copy(output))


def _give(outputs: deque[Any], copy: Callable[[Any], Any], forward: Any, *inputs: Any, **keywords: Any) -> Any:
    return copy(outputs.popleft()) if outputs else forward(*inputs, **keywords)


def _restore(module: nn.Module) -> None:
    module.__dict__.pop("forward", None)


def _itself(output: Any) -> Any:
    return output


def _copied(output: Any) -> Any:
    """With copies of its tensors, however deep they are."""
    match output:
        case Tensor():
            return output.clone()
        case tuple() if hasattr(output, "_fields"):
            return type(output)(*map(_copied, output))
        case tuple() | list():
            return type(output)(map(_copied, output))
        case Mapping():
            kind: Any = type(output)
            return kind(**{key: _copied(each) for key, each in output.items()})
    return output
