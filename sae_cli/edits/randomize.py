"""A language model with random numbers for weights: the control for what a dictionary finds in the data alone."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sae_cli.models import ModelParts


@dataclass(frozen=True)
class ChangedTensor:
    """What became of one parameter.

    Attributes:
        name: in the model; of tied parameters, the first.
        shape: its shape.
        kept: it has its old values.
        mean, std: before and after.
    """

    name: str
    shape: tuple[int, ...]
    kept: bool
    mean: tuple[float, float]
    std: tuple[float, float]


@torch.no_grad()
def randomize(
    hf: nn.Module, parts: ModelParts, fresh: nn.Module | None, scheme: str, keep: Collection[str], seed: int
) -> list[ChangedTensor]:
    """Replace the parameters of a model in place. Buffers are left alone, and tied parameters stay tied.

    Args:
        hf: the model.
        parts: of it.
        fresh: for `reinit`, the same model as its initializer leaves it.
        scheme: `reinit`; `gaussian`: independent numbers with each tensor's mean and standard deviation; `permute`:
            each tensor's entries in another order.
        keep: parts that are left alone, of `embed`, `unembed` and `norm`; a tensor that belongs to a kept and to
            another part is kept.
        seed: of the numbers; those of a tensor depend on its name too, not on what else is kept.
    """
    kept = {id(parameter) for part in keep for parameter in _parameters(hf, parts, part)}
    initial = dict(fresh.named_parameters()) if fresh else {}
    report: list[ChangedTensor] = []
    for name, parameter in hf.named_parameters():
        before = parameter.clone()
        if id(parameter) not in kept:
            parameter.copy_(_randomized(before, initial.get(name), scheme, _generator(seed, name)))
        report.append(
            ChangedTensor(
                name,
                tuple(parameter.shape),
                id(parameter) in kept,
                (float(before.double().mean()), float(parameter.double().mean())),
                (_std(before), _std(parameter)),
            )
        )
    return report


def is_tied(hf: nn.Module, parts: ModelParts) -> bool:
    """Whether the unembedding is the token embedding."""
    return parts.unembedding.get_parameter("weight") is parts.embeddings[0].get_parameter("weight")


def _parameters(hf: nn.Module, parts: ModelParts, part: str) -> list[nn.Parameter]:
    match part:
        case "embed":
            modules = parts.embeddings
        case "unembed":
            modules = (parts.unembedding, *parts.output_projections)
        case "norm":
            modules = tuple(module for module in hf.modules() if type(module).__name__.endswith("Norm"))
        case _:
            raise ValueError(f"no part is called {part}")
    return [parameter for module in modules for parameter in module.parameters()]


def _randomized(before: Tensor, fresh: Tensor | None, scheme: str, generator: np.random.Generator) -> Tensor:
    match scheme:
        case "reinit":
            assert fresh is not None
            return fresh
        case "gaussian":
            numbers = torch.as_tensor(generator.standard_normal(tuple(before.shape)))
            return before.double().mean() + _std(before) * numbers
        case "permute":
            order = torch.as_tensor(generator.permutation(before.numel()))
            return before.flatten()[order].view_as(before)
        case _:
            raise ValueError(f"no scheme is called {scheme}")


def _std(tensor: Tensor) -> float:
    return float(tensor.double().std(correction=0))


def _generator(seed: int, name: str) -> np.random.Generator:
    """numpy's, whose numbers are the same on every machine."""
    return np.random.default_rng([seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")])
