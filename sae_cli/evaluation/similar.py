"""Features of two dictionaries held against each other: what was found, whatever they are compared by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from sae_cli.metrics.comparison_lines import BANDS
from sae_cli.metrics.report import BandReport, MatchReport, PairReport
from sae_cli.metrics.similarity import MOST_ASSIGNED, NearestRows, mmcs_figures
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console


class OneWay(NamedTuple):
    """Features of one dictionary and what is most like each of them in another.

    Attributes:
        of: which of its living features, by their places among them [K].
        nearest: their largest similarities, and the places of those features among the other's living ones [K].
        floors: what the mean is held against, by their keys.
    """

    of: Int[Tensor, " K"]
    nearest: NearestRows
    floors: Mapping[str, float]


class Similar(NamedTuple):
    """Two dictionaries, in both directions; and the similarities of the best one-to-one assignment, if it was made."""

    forward: OneWay
    back: OneWay
    one_to_one: Float[Tensor, " _"] | None = None

    def report(
        self, numbers: tuple[int, int], frequencies: tuple[Float[Tensor, " A"], Float[Tensor, " B"]], above: float
    ) -> PairReport:
        """The figures of a pair.

        Args:
            numbers: of the two dictionaries in the comparison.
            frequencies: of their living features.
            above: similarity above which a feature is found again.
        """
        both = zip((self.forward, self.back), frequencies, strict=True)
        forward, back = (_by_frequency(way, frequency, above) for way, frequency in both)
        return {
            "a": numbers[0],
            "b": numbers[1],
            "a_to_b": _figures(self.forward, above),
            "b_to_a": _figures(self.back, above),
            "a_to_b_by_frequency": forward,
            "b_to_a_by_frequency": back,
            "one_to_one": None if self.one_to_one is None else _matched(self.one_to_one),
        }


def all_of(nearest: NearestRows, floors: Mapping[str, float]) -> OneWay:
    """All living features of a dictionary."""
    return OneWay(torch.arange(len(nearest.cosine)), nearest, floors)


def is_assigned(asked: bool, n_a: int, n_b: int) -> bool:
    """Whether a one-to-one assignment is made; where it is asked for and would take too long, that is said."""
    most = max(n_a, n_b)
    if asked and most > MOST_ASSIGNED:
        console.log(f"no one-to-one assignment: {most:,} features, more than {MOST_ASSIGNED:,}")
    return asked and most <= MOST_ASSIGNED


def found_again(n: int, ways: Sequence[OneWay], above: float) -> tuple[Int[Tensor, " A"], Int[Tensor, " A"]]:
    """For each of n living features in how many other dictionaries it is found again, and in how many it was looked
    for."""
    found, looked = torch.zeros(2, n, dtype=torch.int64)
    for way in ways:
        found[way.of] += (way.nearest.cosine > above).long()
        looked[way.of] += 1
    return found, looked


def _figures(way: OneWay, above: float) -> dict[str, float]:
    cosine = way.nearest.cosine
    return mmcs_figures(cosine) | {"matched": float((cosine > above).double().mean())} | dict(way.floors)


def _by_frequency(way: OneWay, frequency: Float[Tensor, " A"], above: float) -> list[BandReport]:
    own, matched = frequency[way.of], way.nearest.cosine > above
    found: list[BandReport] = []
    for low, high, name in BANDS:
        inside = (own > low) & (own <= high)
        share = float(matched[inside].double().mean()) if inside.any() else None
        found.append({"frequency": name, "features": int(inside.sum()), "matched": share})
    return found


def _matched(similarity: Float[Tensor, " _"]) -> MatchReport:
    return {"mean": float(similarity.mean()), "share_0.9": float((similarity > 0.9).float().mean())}
