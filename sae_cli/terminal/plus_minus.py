"""A figure and its standard error as people read them: as many digits as the error calls for."""

from __future__ import annotations

import math

_MOST = 12


def plus_minus(value: float, error: float | None, digits: int = 4, sign: str = "") -> str:
    """`0.9037 ± 0.0121`; the value alone without an error.

    Args:
        value: the figure.
        error: its standard error, which is not shown as zero unless it is: two of its digits, at least.
        digits: after the point, where they are enough.
        sign: `+` to show it always.
    """
    if error is None:
        return f"{value:{sign}.{digits}f}"
    if 0 < error < math.inf:
        digits = max(digits, min(_MOST, 1 - math.floor(math.log10(error))))
    return f"{value:{sign}.{digits}f} ± {error:.{digits}f}"
