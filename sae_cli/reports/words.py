"""Figures as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sae_cli.documents import Facts
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Of
from sae_cli.metrics.report import figure
from sae_cli.reports.values import Cell
from sae_cli.runs.definitions import UNDEFINED, is_undefined
from sae_cli.terminal.plus_minus import plus_minus


def headings(keys: Sequence[str], of: Of = Of.EVALUATION) -> tuple[str, ...]:
    """What columns of figures are called."""
    known = figures(of)
    return tuple(known[key].heading for key in keys)


def number(value: object) -> str:
    """Whole numbers with their thousands set apart, others with four digits; nothing for what is missing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def with_error(figures: Facts, key: str) -> str:
    """A figure with its standard error, where there is one."""
    value, error = figure(figures, key), figure(figures, f"{key}_se")
    if value is None:
        return ""
    return plus_minus(value, error)


def figure_cell(figures: Facts, key: str) -> Cell:
    """A figure in a table that is sorted by its value."""
    value = figures.get(key)
    order = float(value) if isinstance(value, int | float) else None
    if is_undefined(figures, key):
        return Cell(text=UNDEFINED, order=None)
    if f"{key}_se" in figures:
        return Cell(text=with_error(figures, key), order=order)
    return Cell(text=number(value), order=order)


def share(part: int, whole: int) -> str:
    """`596 (29.1 %)`"""
    return f"{part:,} ({part / whole:.1%})".replace("%)", " %)") if whole else f"{part:,}"
