"""Charts as what the page draws them from."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from sae_cli.documents import Document
from sae_cli.escaping import visible
from sae_cli.reports.packing import Pack
from sae_cli.reports.values import Axis, Chart, Column, Series

_NOT_DRAWN_FROM = ("columns", "name")


def chart_document(chart: Chart, pack: Pack) -> Document:
    """A chart in JSON values, its numbers in the pack."""
    return {
        "name": chart.name,
        "title": visible(chart.title),
        "x": _axis(chart.x),
        "y": [_axis(each) for each in chart.y],
        "z": _axis(chart.z) if chart.z else None,
        "lines": [asdict(each) | {"label": visible(each.label)} for each in chart.lines],
        "series": [_series(each, pack) for each in chart.series],
    }


def _axis(axis: Axis) -> Document:
    return {"title": visible(axis.title), "log": axis.log}


def _series(series: Series, pack: Pack) -> Document:
    columns = {name: _column(values, pack) for name, values in series.columns.items()}
    drawn = {name: value for name, value in vars(series).items() if name not in _NOT_DRAWN_FROM}
    return {"name": visible(series.name), "columns": columns, "length": len(series), **drawn}


def _column(values: Column, pack: Pack) -> Document:
    if isinstance(values, np.ndarray):
        return pack.add(values)
    return {"words": [visible(each) for each in values]}
