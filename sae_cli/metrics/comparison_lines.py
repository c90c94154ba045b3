"""What a comparison of dictionaries is called, and the floors and the bands of frequency that it has."""

from __future__ import annotations

from collections.abc import Mapping

from sae_cli.config.evaluation import By
from sae_cli.metrics.report import ComparisonReport
from sae_cli.terminal.plus_minus import plus_minus

FLOORS = ("floor_random", "floor_subspace", "floor_moved", "floor_next")
"""Of these a comparison has those of what features are compared by."""
BANDS = ((0.1, 1.0, "> 10 %"), (0.01, 0.1, "1-10 %"), (1e-3, 0.01, ".1-1 %"), (0.0, 1e-3, "< .1 %"))
"""Of the frequency of a feature: above, at most, and what it is called."""


def what_by(report: ComparisonReport) -> str:
    """By what, in words; earlier comparisons were all by directions."""
    match report.get("by", By.directions.value):
        case By.activations.value:
            return "activations on the same tokens"
        case By.effects.value:
            return "effects on the logits"
        case by:
            return f"{'what is read' if by == By.encoder.value else 'directions'} in {report.get('space')}"


def floors_of(report: ComparisonReport) -> list[str]:
    """The floors that a comparison has, which depend on what it is by."""
    return [key for key in FLOORS if any(key in pair[way] for pair in report["pairs"] for way in ("a_to_b", "b_to_a"))]


def floor_text(figures: Mapping[str, float], floor: str) -> str:
    """A floor, with its standard deviation over draws where it was drawn."""
    if floor not in figures:
        return ""
    deviation = figures.get(f"{floor}_sd")
    return f"{figures[floor]:.3f}" if deviation is None else plus_minus(figures[floor], deviation, 3)
