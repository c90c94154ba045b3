"""What all metrics have in common: they add what one pass sees, merge with another rank's, and divide last."""

from __future__ import annotations

from typing import Protocol, TypeVar

Seen_contra = TypeVar("Seen_contra", contravariant=True)
Found_co = TypeVar("Found_co", covariant=True)
Own = TypeVar("Own")


class Metric(Protocol[Seen_contra, Found_co]):
    """Sums and counts over a pass, from which figures follow by one division.

    `Encoded` is what metrics of a dictionary see; others say what they see beside themselves.
    """

    def add(self, seen: Seen_contra, /) -> None:
        """Add a batch of what the pass sees."""
        ...

    def merge(self: Own, other: Own, /) -> Own:
        """The metric of both parts, as if one pass had seen them; neither part is changed."""
        ...

    def results(self) -> Found_co:
        """What was found: figures by their names, or numbers for each feature."""
        ...
