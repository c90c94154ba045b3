"""Histograms as series."""

from __future__ import annotations

import numpy as np

from sae_cli.metrics.figure import Figure
from sae_cli.reports.values import Axis, Chart, Series

_BINS = 50
_WIDE = 50
"""Positive values whose largest is so many times the smallest are shown on a log scale."""


def log_edges(values: np.ndarray, per_decade: int = 10) -> np.ndarray:
    """Edges of bins on a log scale, at whole parts of decades, that hold all of these positive values.

    Raises:
        ValueError: one is infinite.
    """
    if not len(values):
        return np.array([1.0, 10.0])
    if np.isinf(values).any():
        raise ValueError("infinite values in a histogram")
    low = np.floor(per_decade * np.log10(values.min()) + 1e-9)
    high = np.ceil(per_decade * np.log10(values.max()) - 1e-9)
    edges = 10 ** (np.arange(low, max(high, low + 1) + 1) / per_decade)
    edges[0], edges[-1] = min(edges[0], values.min()), max(edges[-1], values.max())
    return edges


def counts(values: np.ndarray, edges: np.ndarray, name: str, what: str, color: int = 0) -> Series:
    """How many values are in each bin."""
    found, _ = np.histogram(values, edges)
    columns = {"from": edges[:-1], "to": edges[1:], what: found.astype(np.int64)}
    return Series(name=name, columns=columns, x="from", to="to", y=what, mark="bars", color=color)


def distribution(figure: Figure, values: np.ndarray) -> Chart | None:
    """The histogram of a figure over features, those that are not numbers left out; None where there are none."""
    values = values[np.isfinite(values)].astype(np.float64)
    if not len(values):
        return None
    wide = values.min() > 0 and values.max() / values.min() > _WIDE
    edges = log_edges(values) if wide else _even_edges(values)
    q05, q50, q95 = np.quantile(values, (0.05, 0.5, 0.95))
    return Chart(
        name=figure.key,
        title=figure.chart,
        series=[counts(values, edges, figure.chart, "features")],
        x=Axis(title=figure.unit, log=bool(wide)),
        y=[Axis(title="features")],
        key=[("features", f"{len(values):,}"), ("median", f"{q50:.4g}"), ("5 % to 95 %", f"{q05:.4g} to {q95:.4g}")],
    )


def _even_edges(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-5 * max(abs(low), abs(high), 1e-30):
        room = max(abs(low), 1.0) * 0.5
        low, high = low - room, high + room
    return np.linspace(low, high, _BINS + 1)
