"""Contrasts of recipes: every difference with its interval and verdict, in numbers and in sizes that matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.metrics.catalogue import contrasted
from sae_cli.metrics.contrast_lines import difference_text, figure_and_baseline, verdict_words
from sae_cli.metrics.report import ContrastLine, ContrastReport
from sae_cli.reports.values import Axis, Cell, Chart, Line, Section, Series, Table
from sae_cli.reports.words import number
from sae_cli.runs.definitions import UNDEFINED
from sae_cli.runs.file_names import CONTRAST_FILE

_HEADER = ("figure", "A", "B", "A - B (95 % interval)", "p (Holm)", "verdict", "over")


def contrast(run: FinishedRun, name: str = "contrast", title: str = "Contrast") -> Section:
    """The differences, what was predicted of them, and the dictionaries that they are between."""
    report: ContrastReport = run.read_json(CONTRAST_FILE)
    lines, pairs = report["lines"], report["pairs"]
    missing = [figure_and_baseline(each) for each in report["missing"]]
    rows = [*map(_row, lines), *((_label(key, against), "", "", "", "", UNDEFINED, "") for key, against in missing)]
    tables = [Table(rows=rows, header=_HEADER, sortable=True)]
    if predictions := report["predictions"]:
        judged = [
            (each["prediction"], *(number(each[key]) for key in ("value", "low", "high")), each["outcome"])
            for each in predictions
        ]
        header = ("predicted before it was measured", "found", "from", "to", "outcome")
        tables.append(Table(rows=judged, header=header))
    of_pairs = [(each["a"], each["b"], number(each["seed"])) for each in pairs]
    tables.append(Table(rows=of_pairs, header=("A", "B", "seed"), title="What was contrasted", folded=len(pairs) > 3))
    documents = report["documents"]
    seeds = len({each["seed"] for each in pairs}) if None not in [each["seed"] for each in pairs] else len(pairs)
    units = f"{seeds} seed{'s' * (seeds > 1)}" + ("" if documents is None else f" and {documents:,} documents")
    how = f"paired on the same rows of text, over {units}; corrected for {len(lines)} figures (Holm)"
    return Section(
        name=name,
        title=title,
        text=f"{run.directory}: {how}.",
        tables=tables,
        charts=_chart(lines, name),
    )


def _row(line: ContrastLine) -> tuple[str | Cell, ...]:
    known = contrasted()[line["figure"]]
    return (
        _label(line["figure"], line.get("against")),
        known.text(line["a"]),
        known.text(line["b"]),
        Cell(text=difference_text(line, known), order=line["difference"]),
        Cell(text="" if line["p_holm"] is None else f"{line['p_holm']:.2g}", order=line["p_holm"]),
        verdict_words(line, known),
        line.get("unit", ""),
    )


def _label(key: str, against: str | None) -> str:
    named = contrasted()[key].named
    return f"{named}, B: {against}" if against else named


def _chart(lines: Sequence[ContrastLine], name: str) -> list[Chart]:
    """Differences that have an interval and a size that matters, in that size."""
    shown = [
        (line, line["low"], line["high"], line["material"])
        for line in lines
        if line["low"] is not None and line["high"] is not None and line["material"]
    ]
    if not shown:
        return []
    labels = [_label(line["figure"], line.get("against")) for line, *_ in shown]
    columns = {
        "figure": labels,
        "difference": np.array([line["difference"] / material for line, _, _, material in shown]),
        "half": np.array([(high - low) / 2 / material for _, low, high, material in shown]),
    }
    series = Series(name="A - B", columns=columns, x="figure", y="difference", error="half", label="figure")
    texts = [difference_text(line, contrasted()[line["figure"]]) for line, *_ in shown]
    return [
        Chart(
            name=f"{name}_differences",
            title="Differences, in sizes that matter",
            series=[series],
            x=Axis(title="figure"),
            y=[Axis(title="(A - B) / size that matters")],
            lines=[
                Line(axis="y", value=value, label=label) for value, label in ((-1, ""), (0, "none"), (1, "matters"))
            ],
            caption="Bars are 95 % intervals over seeds and documents, of each figure alone; verdicts are corrected.",
            key=list(zip(labels, texts, strict=True)),
        )
    ]
