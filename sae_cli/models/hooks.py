"""Reading and replacing activations at hook points of a running model.

A *tap* is where a site is in the model: the input or the output of one module. A *visitor* is called with the
activations there and returns what takes their place; one that only reads returns what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from sae_cli.config.hook import HookPoint, LogitMode, Side
from sae_cli.errors import RequestError
from sae_cli.models.first_tensor import FirstTensor, first_argument, first_in
from sae_cli.models.parts import ModelParts
from sae_cli.tensor_types import Activations, SiteActivations

Visitor = Callable[[Activations], Activations]


class ModuleSide(NamedTuple):
    """One side of a module: its path as the model's `named_modules` has it."""

    path: str
    side: Side


class Site(NamedTuple):
    """A hook point of one decoder block; `layer` -1 is the input of block 0 and goes with `resid` only.

    `logits` belong to the last block; `mode` goes with `logit_update` only. `module` goes with `HookPoint.module`,
    which is of no block and has layer 0.
    """

    hook: HookPoint
    layer: int
    mode: LogitMode | None = None
    module: ModuleSide | None = None

    @classmethod
    def of_module(cls, path: str, side: Side) -> Site:
        """One side of a module."""
        return cls(HookPoint.module, 0, None, ModuleSide(path, side))

    @property
    def label(self) -> str:
        """`mlp_out.3`, `logit_update-linear.3`, or `model.layers.3.mlp.down_proj.output`."""
        if self.module is not None:
            return f"{self.module.path}.{self.module.side.value}"
        return f"{self.hook.value}{f'-{self.mode.value}' if self.mode else ''}.{self.layer}"


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
    """Where a site is.

    Attributes:
        module: whose input or output it is.
        at_input: whether it is what the module reads, not what it returns.
        named: what the module is called in messages, where activations must come in rows and positions as they are;
            else they may come as one row after another.
        scale: what activations are multiplied by on their way to the residual stream, which visitors see done.
        written_over: whether the model may write into the tensor later, so that visitors are given a copy.
    """

    module: nn.Module
    at_input: bool
    named: str = ""
    scale: float = 1.0
    written_over: bool = False


def find_tap(parts: ModelParts, site: Site) -> Tap:
    """Where a valid site of a block is; the logit hooks are computed, and are nowhere."""
    family = parts.family
    if site == Site(HookPoint.resid, -1):
        return Tap(parts.blocks[0].block, at_input=True)
    place = site.hook.place
    if place.part is None:
        raise AssertionError(f"hook={site.hook.value}: expected a hook point with a place in the model, found none")
    is_update = place.part in ("attn_out", "mlp_out")
    return Tap(
        getattr(parts.blocks[site.layer], place.part),
        place.at_input,
        scale=parts.residual_multiplier if is_update else 1.0,
        written_over=is_update and family.adds_in_place,
    )


@contextmanager
def visiting(visitors: Iterable[tuple[Tap, Visitor]], rows: torch.Size) -> Iterator[None]:
    """Within the context, forward passes over rows of this shape [B, T] call the visitors, in forward order."""
    with ExitStack() as stack:
        for tap, visitor in visitors:
            stack.callback(_attach(tap, visitor, rows).remove)
        yield


def _attach(tap: Tap, visitor: Visitor, rows: torch.Size) -> RemovableHandle:
    if tap.at_input:
        hook = partial(_visit_input, tap, visitor, rows)
        return tap.module.register_forward_pre_hook(hook, with_kwargs=True)
    return tap.module.register_forward_hook(partial(_visit_output, tap, visitor, rows))


def _visit_input(
    tap: Tap, visitor: Visitor, rows: torch.Size, _: nn.Module, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> Any:
    return _visit(tap, visitor, rows, first_argument(arguments, keywords))


def _visit_output(
    tap: Tap, visitor: Visitor, rows: torch.Size, _: nn.Module, arguments: tuple[Any, ...], output: object
) -> Any:
    # Attention modules and some blocks return (activations, weights, …).
    return _visit(tap, visitor, rows, first_in(output))


def _visit(tap: Tap, visitor: Visitor, rows: torch.Size, found: FirstTensor | None) -> object:
    """What the module is given, or returns, instead; None where that stays as it is."""
    if found is None or (tap.named and found.value.shape[:-1] != rows):
        shape = ", ".join(map(str, rows))
        raise RequestError(f"{tap.named}: expected activations of shape ({shape}, width), found {described(found)}")
    there = found.value
    by_row = there.reshape(rows[0], -1, there.shape[-1])  # OPT runs its MLP on (rows·context, width)
    if tap.scale != 1.0:
        by_row = by_row * tap.scale
    elif tap.written_over:
        by_row = by_row.clone()
    replaced = visitor(by_row)
    if replaced is by_row:
        return None
    assert replaced.shape == by_row.shape, f"replacement has shape {tuple(replaced.shape)}, not {tuple(by_row.shape)}"
    assert replaced.dtype == by_row.dtype, f"replacement has dtype {replaced.dtype}, not {by_row.dtype}"
    if tap.scale != 1.0:
        replaced = replaced / tap.scale
    elif tap.written_over:
        replaced = replaced.clone()
    return found.replaced(replaced.reshape(there.shape))


def described(found: FirstTensor | None) -> str:
    """What there is, for messages."""
    return "no tensor" if found is None else f"{tuple(found.value.shape)} of {found.value.dtype}".replace("torch.", "")
