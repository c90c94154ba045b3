"""Comparisons of dictionaries: MMCS with its floors, and the histograms behind it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.documents import Facts
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Of
from sae_cli.metrics.report import ComparisonReport, PairReport
from sae_cli.reports.sections.histograms import counts
from sae_cli.reports.values import Axis, Cell, Chart, Line, Section, Series, Table
from sae_cli.reports.words import figure_cell, headings, number
from sae_cli.runs.file_names import COMPARE_FILE, SIMILARITY_FILE
from sae_cli.terminal.plus_minus import plus_minus

_EDGES = np.round(np.linspace(-0.2, 1.0, 61), 10)
_MOST_PAIRS = 12
_OF_RUNS = ("features", "alive", "l0", "dense_1", "dense_10", "token_entropy_median")


def comparison(run: FinishedRun, name: str = "similarity", title: str = "Similarity") -> Section:
    """The dictionaries, the similarity of each pair in both directions, and a histogram a pair."""
    report: ComparisonReport = run.read_json(COMPARE_FILE)
    tensors = run.read_tensors(SIMILARITY_FILE)
    pairs, numbered = report["pairs"], [f"[{i}] {each['run']}" for i, each in enumerate(report["runs"])]
    dictionaries = [
        (name, *(figure_cell(each, key) for key in _OF_RUNS))
        for name, each in zip(numbered, report["runs"], strict=True)
    ]
    charts = [_pair(pair, tensors, name) for pair in pairs[:_MOST_PAIRS]]
    missing = []
    if len(pairs) > _MOST_PAIRS:
        missing.append(f"Histograms of the first {_MOST_PAIRS} of {len(pairs)} pairs.")
    tables = [
        Table(rows=dictionaries, header=("dictionary", *headings(_OF_RUNS)), sortable=True),
        Table(rows=[row for pair in pairs for row in _rows(pair)], header=_header(), sortable=True),
    ]
    text = f"Directions in {report['space']}, {run.directory}."
    return Section(name=name, title=title, text=text, tables=tables, charts=charts, missing=missing)


_FLOORS = ("floor_random", "floor_subspace")


def _header() -> tuple[str, ...]:
    known = figures(Of.PAIR)
    labels = [known[key].label for key in ("mmcs", *_FLOORS, "q50", "share_0.9")]
    return ("from -> to", *labels, "one-to-one mean")


def _rows(pair: PairReport) -> list[tuple[str | Cell, ...]]:
    rows = []
    for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
        each: Mapping[str, float] = pair[key]
        matched: Facts = pair.get("one_to_one") or {}
        floors = [Cell(text=plus_minus(each[floor], each[f"{floor}_sd"], 3), order=each[floor]) for floor in _FLOORS]
        values = [figure_cell(each, "mmcs"), *floors, figure_cell(each, "q50"), figure_cell(each, "share_0.9")]
        rows.append((f"[{start}] -> [{end}]", *values, figure_cell(matched, "mean")))
    return rows


def _pair(pair: PairReport, tensors: Mapping[str, Tensor], name: str) -> Chart:
    a, b = pair["a"], pair["b"]
    ways = ((a, b, "a_to_b", 0), (b, a, "b_to_a", 1))
    edges = _EDGES
    series: list[Series] = []
    for start, end, _, color in ways:
        cosine = tensors[f"{start}_{end}.cosine"].numpy().clip(edges[0], edges[-1])
        series.append(counts(cosine, edges, f"[{start}] to [{end}]", "features", color))
    known = figures(Of.PAIR)
    lines = [Line(axis="x", value=pair["a_to_b"][key], label=known[key].label) for key in (*_FLOORS, "mmcs")]
    return Chart(
        name=f"{name}_{a}_{b}",
        title=f"Nearest directions of [{a}] and [{b}]",
        series=series,
        x=Axis(title="cosine with the nearest direction of the other"),
        y=[Axis(title="features")],
        lines=lines,
        caption=f"Lines: [{a}] to [{b}]; the table has both directions.",
        key=[(f"MMCS [{start}] to [{end}]", number(pair[key]["mmcs"])) for start, end, key, _ in ways],
    )
