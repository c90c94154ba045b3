"""Charts as figures for papers, drawn by matplotlib: the width of a column or of a page, in vectors, and in files that
depend on nothing but the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from sae_cli.escaping import visible
from sae_cli.reports.values import Axis, Chart, Column, Line, Series

WIDTHS = {1: 3.3, 2: 6.9}
"""Inches, by the number of columns of a page that a figure takes."""

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
"""Colors that people with any kind of color vision tell apart (Okabe and Ito 2008), as on the page."""
MARKERS = ("o", "s", "^", "D", "v", "P")

_GREY = "#666666"
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
_FEW_DECADES = 30
"""Ratio of the ends of a logarithmic axis below which it has more ticks than powers of ten."""
_PANEL, _SPACE = 1.9, 2.6
"""Inches that a panel is high, in two dimensions and in three."""
_MOST_VECTOR_POINTS = 50_000
"""More are drawn as an image within the figure."""

_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "text.parse_math": False,  # names of runs may have a $ in them
    "axes.titlesize": 7,
    "legend.fontsize": 6,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.0,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,
    "svg.hashsalt": "sae",
    "savefig.dpi": 300,
}
_WITHOUT_DATES = {"pdf": {"CreationDate": None}, "svg": {"Date": None}, "png": {"Software": None}}


@contextmanager
def for_papers() -> Iterator[None]:
    """Within it figures are made and saved in one style, whatever the user's own is."""
    with rc_context():
        rcdefaults()
        rcParams.update(_STYLE)
        yield


def draw(charts: Sequence[Chart], columns: int, titled: bool = False) -> Figure:
    """All panels of the charts in one figure, with one legend where they have the same series.

    Args:
        charts: one or several.
        columns: of a page, 1 or 2.
        titled: each chart's title is above its first panel.
    """
    panels = [(chart, number) for chart in charts for number in range(1 if chart.z else len(chart.y))]
    figure, places = _places(columns, [chart.z is not None for chart, _ in panels])
    axes = [_panel(figure, place, chart, number) for place, (chart, number) in zip(places, panels, strict=True)]
    if columns == 1 and len(charts) > 1 and charts[0].z:
        for axis in axes[1:]:
            axis.xaxis.label.set_size(5)
            axis.yaxis.label.set_size(5)
    for axis, (chart, number) in zip(axes, panels, strict=True):
        if titled and number == 0:
            below = axis.get_title("right")
            axis.set_title("\n".join([visible(chart.title), *([below] if below else [])]), loc="right", fontsize=5)
    _legends(figure, axes, columns)
    return figure


def save(figure: Figure, path: Path, suffix: str) -> None:
    """Write the figure as pdf, svg or png; the same figure makes the same bytes."""
    figure.savefig(path, format=suffix, metadata=_WITHOUT_DATES[suffix])


def _places(columns: int, spaces: Sequence[bool]) -> tuple[Figure, list[Any]]:
    """The figure, and the place in its grid of each panel, of which some are spaces in three dimensions.

    In one column panels are below each other, but beside each other below a space.
    """
    n = len(spaces)
    if columns == 1 and any(spaces):
        heights = [_SPACE, *[_PANEL] * (n // 2)]
        slots = [(0, slice(None)), *((1 + i // 2, i % 2) for i in range(n - 1))]
        across = 2
    else:
        across = 1 if columns == 1 else {1: 1, 2: 2, 4: 2}.get(n, 3)
        heights = [_SPACE if any(spaces) else _PANEL] * -(-n // across)
        slots = [divmod(i, across) for i in range(n)]
    figure = Figure(figsize=(WIDTHS[columns], sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), across, height_ratios=heights)
    return figure, [grid[row, column] for row, column in slots]


def _panel(figure: Figure, place: Any, chart: Chart, number: int) -> Any:
    if chart.z:
        return _space(figure, place, chart, chart.z)
    axis = figure.add_subplot(place)
    bars = 0
    for series in [each for each in chart.series if each.panel == number]:
        _draw(axis, series, filled=not bars)
        bars += series.mark == "bars"
    for line in [each for each in chart.lines if each.panel == number]:
        _draw_line(axis, line)
    for side, what in (("x", chart.x), ("y", chart.y[number])):
        _scale(axis, side, what)
    if bars:
        axis.set_title("\n".join(visible(f"{name}: {value}") for name, value in chart.key), loc="right", fontsize=5)
    return axis


def _scale(axis: Any, side: str, what: Axis) -> None:
    axis.set(**{f"{side}label": what.title, f"{side}scale": "log" if what.log else "linear"})
    ticks = axis.xaxis if side == "x" else axis.yaxis
    if what.log:
        low, high = axis.get_xlim() if side == "x" else axis.get_ylim()
        if high < _FEW_DECADES * low:
            ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
        ticks.set_minor_formatter(NullFormatter())
    elif side == "x" and what.title.startswith("tokens"):
        ticks.set_major_formatter(EngFormatter(sep=""))


def power_of_ten(value: float) -> str:
    """`10⁻³`; another number with three digits."""
    exponent = np.log10(value)
    if abs(exponent - round(exponent)) > 1e-6:
        return f"{value:.3g}"
    return "10" + str(round(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _draw(axis: Any, series: Series, filled: bool) -> None:
    color, x, y = _color(series), series.columns[series.x], series.columns[series.y]
    style = {"color": color, "label": visible(series.name), "gid": series.name}
    match series.mark:
        case "bars":
            edges = np.append(np.asarray(x), np.asarray(series.columns[series.to])[-1])
            axis.stairs(y, edges, fill=filled, zorder=1 if filled else 2, **style)
        case "points" if not series.feature:  # a dictionary each: few
            axis.errorbar(x, y, _errors(series), fmt=_marker(series), elinewidth=0.6, **style)
        case "points":
            axis.scatter(x, y, **style, **_points(series))
        case _:
            marker = _marker(series) if "points" in series.mark else ""
            line = {"linestyle": _DASHES[series.dash], "marker": marker, "markersize": 2.0}
            faint = {"linewidth": 0.7, "color": _GREY, "zorder": 1} if series.faint else {}
            for part in _parts(series):
                axis.plot(np.asarray(x)[part], np.asarray(y)[part], **{**style, **line, **faint})
                style["label"] = "_nolegend_"


def _draw_line(axis: Any, line: Line) -> None:
    """Across the panel, with what it is written along it."""
    upright = line.axis == "x"
    across = axis.axvline if upright else axis.axhline
    across(line.value, color=_GREY, linestyle="--", linewidth=0.8, gid=line.label)
    place = {"xy": (line.value, 1), "xycoords": ("data", "axes fraction"), "rotation": 90}
    if not upright:
        place = {"xy": (1, line.value), "xycoords": ("axes fraction", "data")}
    axis.annotate(visible(line.label), **place, va="top", ha="right", color=_GREY, fontsize=5)


def _errors(series: Series) -> np.ndarray | None:
    return np.nan_to_num(np.asarray(series.columns[series.error], dtype=np.float64)) if series.error else None


def _space(figure: Figure, place: Any, chart: Chart, z: Axis) -> Any:
    """A panel in three dimensions, where logarithmic axes show log10."""
    space: Any = figure.add_subplot(place, projection="3d")
    space.set_box_aspect(None, zoom=0.85)
    measured = (chart.x, chart.y[0], z)
    for series in chart.series:
        names = (series.x, series.y, series.z)
        where = [_logged(series.columns[name], what) for name, what in zip(names, measured, strict=True)]
        space.scatter(*where, color=_color(series), label=visible(series.name), gid=series.name, **_points(series))
    for axis, what in zip((space.xaxis, space.yaxis, space.zaxis), measured, strict=True):
        axis.set_label_text(f"log₁₀ {what.title}" if what.log else what.title)
        axis.set_major_locator(MaxNLocator(4))
        axis.label.set_size(5.5)
        axis.labelpad = -3
        axis.set_tick_params(pad=-2, labelsize=6)
        axis._axinfo["grid"].update(linewidth=0.3, color="#CCCCCC")
    return space


def _logged(column: Column, what: Axis) -> np.ndarray:
    values = np.asarray(column, dtype=np.float64)
    return np.log10(values) if what.log else values


def _points(series: Series) -> dict[str, Any]:
    rasterized = len(series.columns[series.x]) > _MOST_VECTOR_POINTS
    return {"s": 2.0, "linewidths": 0, "alpha": 0.6, "rasterized": rasterized}


def _parts(series: Series) -> list[slice]:
    """The lines that a series consists of: a new one where its group changes."""
    n = len(series.columns[series.x])
    group = np.asarray(series.columns[series.group]) if series.group else np.zeros(n)
    ends = [0, *(np.flatnonzero(group[1:] != group[:-1]) + 1).tolist(), n]
    return [slice(*each) for each in pairwise(ends)]


def _legends(figure: Figure, axes: Sequence[Any], columns: int) -> None:
    """One above all panels if they show the same series, else one in each that shows several."""
    shown = [axis.get_legend_handles_labels() for axis in axes]
    if len({frozenset(names) for _, names in shown}) == 1 and len(shown[0][1]) > 1:
        handles, names = shown[0]
        figure.legend(handles, names, loc="outside upper center", ncols=2 * columns, markerscale=2)
        return
    for axis, (_, names) in zip(axes, shown, strict=True):
        if len(names) > 1:
            axis.legend(loc="best")


def _color(series: Series) -> str:
    return OKABE_ITO[series.color % len(OKABE_ITO)]


def _marker(series: Series) -> str:
    return MARKERS[series.color % len(MARKERS)]
