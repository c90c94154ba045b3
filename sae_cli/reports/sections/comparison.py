"""Comparisons of dictionaries: mean similarity with its floors, and the histograms behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.documents import Facts
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.comparison_lines import floor_text, floors_of, what_by
from sae_cli.metrics.figure import Of
from sae_cli.metrics.report import ComparisonReport, PairReport
from sae_cli.reports.sections.histograms import counts
from sae_cli.reports.values import Axis, Cell, Chart, Line, Section, Series, Table
from sae_cli.reports.words import figure_cell, headings, number
from sae_cli.runs.file_names import COMPARE_FILE, SIMILARITY_FILE

_EDGES = np.round(np.linspace(-0.2, 1.0, 61), 10)
_MOST_PAIRS = 12
_SHARES = ("q50", "share_0.9", "matched")
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
    floors = floors_of(report)
    charts = [_pair(pair, tensors, name, floors) for pair in pairs[:_MOST_PAIRS]]
    missing = []
    if len(pairs) > _MOST_PAIRS:
        missing.append(f"Histograms of the first {_MOST_PAIRS} of {len(pairs)} pairs.")
    tables = [
        Table(rows=dictionaries, header=("dictionary", *headings(_OF_RUNS)), sortable=True),
        Table(rows=[row for pair in pairs for row in _rows(pair, floors)], header=_header(floors), sortable=True),
    ]
    text = f"By {what_by(report)}, {run.directory}."
    return Section(name=name, title=title, text=text, tables=tables, charts=charts, missing=missing)


def _header(floors: Sequence[str]) -> tuple[str, ...]:
    known = figures(Of.PAIR)
    labels = [known[key].label for key in ("mmcs", *floors, *_SHARES)]
    return ("from -> to", *labels, "one-to-one mean")


def _rows(pair: PairReport, floors: Sequence[str]) -> list[tuple[str | Cell, ...]]:
    rows = []
    for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
        each: Mapping[str, float] = pair[key]
        matched: Facts = pair.get("one_to_one") or {}
        values = [
            figure_cell(each, "mmcs"),
            *(Cell(text=floor_text(each, floor), order=each.get(floor)) for floor in floors),
            *(figure_cell(each, key) for key in _SHARES),
        ]
        rows.append((f"[{start}] -> [{end}]", *values, figure_cell(matched, "mean")))
    return rows


def _pair(pair: PairReport, tensors: Mapping[str, Tensor], name: str, floors: Sequence[str]) -> Chart:
    a, b = pair["a"], pair["b"]
    ways = ((a, b, "a_to_b", 0), (b, a, "b_to_a", 1))
    edges = _EDGES
    series: list[Series] = []
    for start, end, _, color in ways:
        cosine = tensors[f"{start}_{end}.cosine"].numpy().clip(edges[0], edges[-1])
        series.append(counts(cosine, edges, f"[{start}] to [{end}]", "features", color))
    known = figures(Of.PAIR)
    lines = [Line(axis="x", value=pair["a_to_b"][key], label=known[key].label) for key in (*floors, "mmcs")]
    return Chart(
        name=f"{name}_{a}_{b}",
        title=f"Most similar features of [{a}] and [{b}]",
        series=series,
        x=Axis(title="similarity with the most similar feature of the other"),
        y=[Axis(title="features")],
        lines=lines,
        caption=f"Lines: [{a}] to [{b}]; the table has both directions.",
        key=[(f"MMCS [{start}] to [{end}]", number(pair[key]["mmcs"])) for start, end, key, _ in ways],
    )
