"""The training curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sae_cli.artifacts.json_document import parse_json
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Of
from sae_cli.reports.values import Axis, Chart, Line, Section, Series
from sae_cli.reports.words import number
from sae_cli.runs.file_names import CURVE
from sae_cli.training.trainer import DECODER_FIT

_PANELS = (("loss",), ("fvu", "held_out_fvu"), ("l0",), ("dead",), ("never_fired",), ("lr",))
"""Keys of the figures that have a panel in common, which is called after the first."""
_OF_FIT = (
    "In the decoder fit at the end the features no longer change and the penalty is off: the loss is the squared error."
)


def curve(run: FinishedRun) -> Section | None:
    """Loss, FVU, L0, features that never fired, then dead ones, and learning rate over the tokens seen."""
    if CURVE not in run.manifest.files:
        return None
    lines = [parse_json(line) for line in run.read_bytes(CURVE).splitlines() if line]
    known = figures(Of.CURVE)
    panels = [keys for keys in _PANELS if any(key in line for key in keys for line in lines)]
    series = [
        _series(lines, key, panel, color)
        for panel, keys in enumerate(panels)
        for color, key in enumerate(keys)
        if any(key in line for line in lines)
    ]
    if not series:
        return None
    note = f" {_OF_FIT}" if _fit(lines) else ""
    chart = Chart(
        name="curve",
        title="Training curve",
        series=series,
        x=Axis(title="tokens"),
        y=[Axis(title=known[keys[0]].axis) for keys in panels],
        lines=_fit(lines),
        caption="Each point is the mean since the one before; the loss is in units of the scaled activations." + note,
        key=[(each.name, f"{_first(each)} at first, {_last(each)} at last") for each in series],
    )
    return Section(name="training", title="Training", charts=[chart])


def _fit(lines: Sequence[dict[str, Any]]) -> list[Line]:
    """Where the decoder fit begins; nothing where there is none, or an earlier version wrote the curve."""
    fits = [number for number, line in enumerate(lines) if line.get("phase") == DECODER_FIT]
    if not fits or not fits[0]:
        return []
    return [Line(axis="x", value=lines[fits[0] - 1]["tokens"], label=DECODER_FIT)]


def _series(lines: Sequence[dict[str, Any]], key: str, panel: int, color: int) -> Series:
    held = [line for line in lines if isinstance(line.get(key), int | float)]
    columns = {name: np.array([line[name] for line in held], dtype=np.float64) for name in ("step", "tokens", key)}
    mark = "line+points" if len(held) < 40 else "line"
    name = figures(Of.CURVE)[key].label
    return Series(name=name, columns=columns, x="tokens", y=key, mark=mark, panel=panel, color=color)


def _first(series: Series) -> str:
    return number(float(series.columns[series.y][0]))


def _last(series: Series) -> str:
    return number(float(series.columns[series.y][-1]))
