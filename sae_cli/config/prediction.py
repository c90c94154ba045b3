"""What somebody expects of a figure before it is measured: `loss_recovered<.74`, `difference.fvu>0`."""

from __future__ import annotations

import re
from typing import NamedTuple

OF_DIFFERENCE = "difference."
_FORM = re.compile(r"\s*(difference\.)?([A-Za-z_0-9]+)\s*(<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


class Prediction(NamedTuple):
    """A figure of A, or its difference between A and B, and the bound that it is said to be above or below."""

    of_difference: bool
    figure: str
    above: bool
    bound: float

    def holds(self, value: float) -> bool:
        return value > self.bound if self.above else value < self.bound


def prediction(text: str) -> Prediction:
    """Read one.

    Raises:
        ValueError: it has another form.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"predict={text}: expected FIGURE<NUMBER or FIGURE>NUMBER, as loss_recovered<.74")
    return Prediction(found[1] is not None, found[2], found[3] == ">", float(found[4]))
