"""Similarity of two sets of directions (Sharkey, Braun & Millidge 2022), with the floors that it stands on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.tensor_types import Float, Int, Tensor

MOST_ASSIGNED = 16_384
"""Features up to which a one-to-one assignment is made: it takes A·B numbers of memory and more time than that."""

_CHUNK = 1024
_COLUMNS = 2**14  # so that a block of cosines is 64 MiB, however many rows there are
_COSINES_AT_ONCE = 2**24
_IN_FLOORS = 2**14
"""Rows of which a floor is the mean, drawn where there are more: it differs by less than a draw does from the next."""
_DRAWS = 3
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def max_cosines(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"]) -> Float[Tensor, " A"]:
    """For each row of a the largest cosine with any row of b; the mean of it is MMCS(a → b)."""
    a, b = unit_rows(a), unit_rows(b)
    return torch.cat([
        torch.stack([(part @ some.T).amax(dim=1) for some in b.split(_COLUMNS)]).amax(dim=0)
        for part in a.split(_CHUNK)
    ])  # fmt: skip


class NearestRows(NamedTuple):
    """For each row of one set the nearest of another: its cosine, and which it is."""

    cosine: Float[Tensor, " A"]
    index: Int[Tensor, " A"]


class Cosines(NamedTuple):
    """The cosines of some rows, of which the first has a number, with B others."""

    cosines: Float[Tensor, "A B"]
    first: int


class NearestOf:
    """For each of B rows the nearest among those that were added, of equal ones the first.

    Args:
        n: B.
    """

    def __init__(self, n: int) -> None:
        self._best = NearestRows(torch.full((n,), -torch.inf), torch.zeros(n, dtype=torch.int64))

    def add(self, seen: Cosines) -> None:
        """Add rows."""
        cosine, index = seen.cosines.max(dim=0)
        self._best = _nearer(self._best, NearestRows(cosine, index + seen.first))

    def merge(self, other: NearestOf) -> NearestOf:
        """The nearest of both parts."""
        merged = NearestOf(len(self._best.cosine))
        merged._best = _nearer(self._best, other._best)
        return merged

    def results(self) -> NearestRows:
        return self._best


def _nearer(one: NearestRows, other: NearestRows) -> NearestRows:
    earlier = (other.cosine == one.cosine) & (other.index < one.index)
    better = (other.cosine > one.cosine) | earlier
    return NearestRows(*(torch.where(better, b, a) for a, b in zip(one, other, strict=True)))


def nearest_both_ways(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"]) -> tuple[NearestRows, NearestRows]:
    """The nearest rows of b for those of a, and of a for those of b, from one pass over chunks of cosines."""
    a, b = unit_rows(a), unit_rows(b)
    forward = [NearestRows(torch.full((len(a),), -torch.inf), torch.zeros(len(a), dtype=torch.int64))]
    back = []
    for place, some in enumerate(b.split(_COLUMNS)):
        found, to_these = [], NearestOf(len(some))
        for number, part in enumerate(a.split(_CHUNK)):
            cosines = part @ some.T
            cosine, index = cosines.max(dim=1)
            found.append(NearestRows(cosine, index + place * _COLUMNS))
            to_these.add(Cosines(cosines, first=number * _CHUNK))
        forward.append(_nearer(forward.pop(), NearestRows(*map(torch.cat, zip(*found, strict=True)))))
        back.append(to_these.results())
    return forward[0], NearestRows(*map(torch.cat, zip(*back, strict=True)))


def largest_both_ways(similarity: Float[Tensor, "A B"]) -> tuple[NearestRows, NearestRows]:
    """The most similar column of each row, and the most similar row of each column."""
    return NearestRows(*similarity.max(dim=1)), NearestRows(*similarity.max(dim=0))


def nearest_others(
    rows: Float[Tensor, "F D"], of: Int[Tensor, " C"], most: int
) -> tuple[Int[Tensor, "C K"], Float[Tensor, "C K"]]:
    """For some of the rows the others that are nearest, and their cosines, the nearest first; K is at most F - 1."""
    unit, kept = unit_rows(rows), min(most, len(rows) - 1)
    index, cosine = [], []
    for part in of.split(max(1, _COSINES_AT_ONCE // len(rows))):
        cosines = unit[part] @ unit.T
        cosines[torch.arange(len(part)), part] = -torch.inf
        nearest = cosines.topk(kept, dim=1)
        index.append(nearest.indices)
        cosine.append(nearest.values)
    return torch.cat(index), torch.cat(cosine)


def mmcs_figures(cosine: Float[Tensor, " A"]) -> dict[str, float]:
    """Mean, quantiles and the share above .9 of largest cosines."""
    return {
        "mmcs": float(cosine.double().mean()),
        **quantiles(cosine),
        "share_0.9": float((cosine > 0.9).double().mean()),
    }


def quantiles(values: Float[Tensor, " A"]) -> dict[str, float]:
    """`q05` to `q95`."""
    found = values.double().quantile(torch.tensor(QUANTILES, dtype=torch.float64))
    return {f"q{round(100 * level):02d}": float(value) for level, value in zip(QUANTILES, found, strict=True)}


def random_floor(a: Float[Tensor, "A D"], n: int, generator: torch.Generator) -> tuple[float, float]:
    """MMCS from a to n isotropic random directions: mean and standard deviation over draws."""
    return _over_draws(a, lambda: torch.randn(n, a.shape[1], generator=generator), generator)


def subspace_floor(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"], generator: torch.Generator) -> tuple[float, float]:
    """MMCS from a to Gaussian rows with the number and the second moment of b's unit rows.

    What is above it is more than a shared subspace.
    """
    rows = unit_rows(b).double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    root = ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).float()
    return _over_draws(a, lambda: torch.randn(len(b), b.shape[1], generator=generator) @ root, generator)


def one_to_one(a: Float[Tensor, "A D"], b: Float[Tensor, "B D"], absolute: bool = False) -> Float[Tensor, " _"]:
    """The cosines, or their absolute values, of the assignment of rows of a to different rows of b whose sum is the
    largest."""
    cosines = unit_rows(a) @ unit_rows(b).T
    return assigned(cosines.abs_() if absolute else cosines)


def assigned(similarity: Float[Tensor, "A B"]) -> Float[Tensor, " _"]:
    """The entries of the assignment of rows to different columns whose sum is the largest."""
    from scipy.optimize import linear_sum_assignment  # half a second that most commands need not wait for

    rows, columns = linear_sum_assignment(similarity.numpy(), maximize=True)
    return similarity[torch.from_numpy(rows), torch.from_numpy(columns)]


def unit_rows(rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Rows scaled to norm 1, in float32."""
    return rows.float() / rows.float().norm(dim=1, keepdim=True).clamp_min(1e-12)


def _over_draws(a: Float[Tensor, "A D"], draw: Callable[[], Tensor], generator: torch.Generator) -> tuple[float, float]:
    some = a if len(a) <= _IN_FLOORS else a[torch.randperm(len(a), generator=generator)[:_IN_FLOORS]]
    found = np.array([float(max_cosines(some, draw()).double().mean()) for _ in range(_DRAWS)])
    return float(found.mean()), float(found.std(ddof=1))
