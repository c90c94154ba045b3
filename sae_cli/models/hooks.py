"""Reading and replacing activations at hook points of a running model.

A *tap* is where a site is in the model: the input or the output of one module. A *visitor* is called with the
activations there and returns what takes their place; one that only reads returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sae_cli.config.hook import HookPoint, LogitMode
from sae_cli.models.parts import ModelParts
from sae_cli.tensor_types import Activations, SiteActivations

Visitor = Callable[[Activations], Activations]


class Site(NamedTuple):
    """A hook point of one decoder block; `layer` -1 is the input of block 0 and goes with `resid` only.

    `logits` belong to the last block; `mode` goes with `logit_update` only.
    """

    hook: HookPoint
    layer: int
    mode: LogitMode | None = None


class Wires(NamedTuple):
    """The places of a model that a dictionary reads and writes; of an autoencoder the same."""

    reads: Site
    writes: Site

    @classmethod
    def at(cls, site: Site) -> Wires:
        """Of an autoencoder."""
        return cls(site, site)


def recorder(seen: dict[Site, SiteActivations], site: Site) -> Visitor:
    """A visitor that leaves activations as they are, and keeps them under their site."""

    def keep(activations: Activations) -> Activations:
        seen[site] = activations
        return activations

    return keep


def stand_in(values: Activations) -> Visitor:
    """A visitor that puts these in the place of whatever there is."""
    return lambda _: values


class Tap(NamedTuple):
    module: nn.Module
    at_input: bool


def find_tap(parts: ModelParts, site: Site) -> Tap:
    """Where a valid site is; the logit hooks are computed, and are nowhere."""
    if site == Site(HookPoint.resid, -1):
        return Tap(parts.blocks[0].block, at_input=True)
    place = site.hook.place
    if place.part is None:
        raise AssertionError(f"hook={site.hook.value}: expected a hook point with a place in the model, found none")
    return Tap(getattr(parts.blocks[site.layer], place.part), place.at_input)


@contextmanager
def visiting(parts: ModelParts, visitors: Mapping[Site, Visitor], n_rows: int) -> Iterator[None]:
    """Within the context, forward passes over `n_rows` rows call the visitors, in forward order."""
    with ExitStack() as stack:
        for site, visitor in visitors.items():
            stack.callback(_attach(find_tap(parts, site), visitor, n_rows).remove)
        yield


def _attach(tap: Tap, visitor: Visitor, n_rows: int) -> RemovableHandle:
    if tap.at_input:
        return tap.module.register_forward_pre_hook(partial(_visit_input, visitor, n_rows))
    return tap.module.register_forward_hook(partial(_visit_output, visitor, n_rows))


def _visit_input(visitor: Visitor, n_rows: int, _: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (_visit(visitor, inputs[0], n_rows), *inputs[1:])


def _visit_output(
    visitor: Visitor, n_rows: int, _: nn.Module, inputs: tuple[Any, ...], output: Tensor | tuple[Any, ...]
) -> Tensor | tuple[Any, ...]:
    # Attention modules and some blocks return (activations, weights, …).
    if isinstance(output, tuple):
        return (_visit(visitor, output[0], n_rows), *output[1:])
    return _visit(visitor, output, n_rows)


def _visit(visitor: Visitor, activations: Tensor, n_rows: int) -> Tensor:
    # OPT runs its MLP on (rows·context, width).
    by_row = activations.reshape(n_rows, -1, activations.shape[-1])
    replaced = visitor(by_row)
    assert replaced.shape == by_row.shape, f"replacement has shape {tuple(replaced.shape)}, not {tuple(by_row.shape)}"
    assert replaced.dtype == by_row.dtype, f"replacement has dtype {replaced.dtype}, not {by_row.dtype}"
    return replaced.reshape(activations.shape)
