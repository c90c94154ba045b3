"""`sae plot`: figures of runs for papers, drawn from the charts of their reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sae_cli.artifacts.files import write_file
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.documents import Document
from sae_cli.errors import RequestError
from sae_cli.escaping import brief
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Of
from sae_cli.reports.sections.curve import curve
from sae_cli.reports.sections.densities import density_cloud, frequencies
from sae_cli.reports.sections.frontier import frontier
from sae_cli.reports.sources import Subject, common_evaluation, parent_of, subject
from sae_cli.reports.values import Chart, Series
from sae_cli.runs.run_names import short_names
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal import console


class Kind(Enum):
    """What is drawn."""

    frequency = "frequency"
    density3d = "density3d"
    frontier = "frontier"
    curve = "curve"


FORMATS = ("pdf", "svg", "png")

_OF_CURVE = ("loss", "fvu", "l0", "dead")
"""The figures of the training curve that a paper has room for."""


@dataclass(frozen=True, kw_only=True)
class PlotRequest:
    """A figure that is asked for.

    Attributes:
        runs: run directories.
        kind: of figure.
        out: the file; its suffix says the format.
        columns: of a page that it takes, 1 or 2.
        evaluation: the evaluation that it shows; None for the one that the report shows.
    """

    runs: Sequence[Path]
    kind: Kind
    out: Path
    columns: int = 1
    evaluation: str | None = None

    @property
    def format(self) -> str:
        return self.out.suffix.removeprefix(".").lower()


class Drawn(NamedTuple):
    """A figure on the disk: where, of which kind, and the charts in it."""

    path: Path
    kind: Kind
    charts: list[Chart]

    def document(self) -> Document:
        """For `--json`: the numbers that are drawn."""
        return {"file": str(self.path), "kind": self.kind.value, "charts": [_document(each) for each in self.charts]}


def run(request: PlotRequest) -> Drawn:
    """Draw a figure.

    Raises:
        RequestError: the runs do not have what it takes, or matplotlib is not installed.
        JobError: they are damaged, or the file cannot be written.
    """
    if find_spec("matplotlib") is None:
        raise RequestError("sae plot draws with matplotlib, which is not installed: pip install 'sae-cli[plot]'")
    charts = charts_of(request)
    from sae_cli.reports.paper import draw, for_papers, save

    with for_papers():
        figure = draw(charts, request.columns, titled=request.kind is Kind.frequency and len(charts) > 1)
        write_file(request.out, lambda path: save(figure, path, request.format))
    return Drawn(request.out, request.kind, charts)


def charts_of(request: PlotRequest) -> list[Chart]:
    """The charts of the runs' report that the figure shows; errors as `run`."""
    if request.kind is Kind.density3d and len(request.runs) > 1:
        raise RequestError(f"kind=density3d shows one run, found {len(request.runs)}; give one")
    if request.kind is Kind.curve and request.evaluation:
        raise RequestError(f"eval={request.evaluation} has no effect with kind=curve: leave it out")
    subjects = _subjects(request)
    match request.kind:
        case Kind.frequency:
            names = short_names(request.runs)
            charts = [_frequency(each.run, each) for each in subjects]
            return [replace(chart, title=name) for chart, name in zip(charts, names, strict=True)]
        case Kind.density3d:
            return _cloud(subjects[0].run, subjects[0])
        case Kind.frontier:
            return _frontier(subjects[0].run, subjects, request.out)
        case Kind.curve:
            curves = [_curve(each.run) for each in subjects]
            return [curves[0] if len(curves) == 1 else _together(curves, short_names(request.runs))]


def _subjects(request: PlotRequest) -> list[Subject]:
    """The runs, of which pruned ones bring along what they were made of where these are compared."""
    like = request.evaluation or (common_evaluation(request.runs) if request.kind is Kind.frontier else "")
    found = [subject(path, like) for path in request.runs]
    if request.kind is Kind.curve:
        return found
    for each in found:
        _check_evaluated(each, request.evaluation)
    known = {each.run.directory.resolve(): each for each in found}
    for each in found if request.kind is Kind.frontier else ():
        if (parent := parent_of(each)) and parent.run.directory.resolve() not in known:
            known[parent.run.directory.resolve()] = parent
    return list(known.values())


def _check_evaluated(each: Subject, name: str | None) -> None:
    directory, there = each.run.directory, [evaluation.name for evaluation in each.evaluations]
    if not each.has_dictionary:
        raise RequestError(f"{directory}: expected a run with a dictionary, found a {each.command} run")
    if not there:
        raise RequestError(f"{directory}: no finished evaluation; run sae eval {directory}")
    if name and there[0] != name:
        raise RequestError(f"{directory}: no finished evaluation {brief(name)}; there is {', '.join(there)}")


@shows_stored
def _frequency(run: FinishedRun, found: Subject) -> Chart:
    parent = parent_of(found)
    before = _statistics(parent) if parent and parent.evaluations else None
    return frequencies(found, _statistics(found), before).charts[0]


@shows_stored
def _cloud(run: FinishedRun, found: Subject) -> list[Chart]:
    section = density_cloud(_statistics(found), found.evaluations[0].figures["rare"]["below"])
    if section is None:
        raise ValueError("no biases of its features")
    return list(section.charts)


@shows_stored
def _frontier(run: FinishedRun, subjects: Sequence[Subject], out: Path) -> list[Chart]:
    section = frontier(subjects, out)[0]
    if not section.charts:
        raise RequestError("none of these evaluations has a loss or an FVU to draw; give other runs")
    for each in section.missing:
        console.warn(each)
    return list(section.charts)


@shows_stored
def _curve(run: FinishedRun) -> Chart:
    section = curve(run)
    if section is None:
        raise RequestError(f"{run.directory}: a {run.manifest.command} run has no training curve; give a train run")
    (chart,) = section.charts
    titles = [figures(Of.CURVE)[key].axis for key in _OF_CURVE]
    kept = [number for number, axis in enumerate(chart.y) if axis.title in titles]
    series = [replace(each, panel=kept.index(each.panel)) for each in chart.series if each.panel in kept]
    return replace(chart, series=series, y=[chart.y[number] for number in kept])


def _together(curves: Sequence[Chart], names: Sequence[str]) -> Chart:
    """One chart of several, in which each run has a color of its own."""
    series = [
        replace(each, name=name if each.color == 0 else f"{name}, held out", color=number, dash=_dash(each))
        for number, (chart, name) in enumerate(zip(curves, names, strict=True))
        for each in chart.series
    ]
    return replace(curves[0], series=series)


def _dash(series: Series) -> str:
    return "solid" if series.color == 0 else "dot"


def _statistics(found: Subject) -> dict[str, np.ndarray]:
    return {name: each.numpy() for name, each in found.evaluations[0].features.items()}


def _document(chart: Chart) -> Document:
    """The numbers of a chart."""
    series = [
        {"name": each.name, "columns": {name: np.asarray(values).tolist() for name, values in each.columns.items()}}
        for each in chart.series
    ]
    lines = [{"axis": each.axis, "value": each.value, "label": each.label} for each in chart.lines]
    return {"name": chart.name, "title": chart.title, "series": series, "lines": lines, "key": dict(chart.key)}
