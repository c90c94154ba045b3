"""Features as classifiers: the best feature of each concept against the token, how many features a concept takes, and
whether several that agree are better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.metrics.probe_reports import BasisReport, ConceptReport, ProbeReport
from sae_cli.reports.values import Axis, Cell, Chart, Line, Section, Series, Table
from sae_cli.runs.file_names import PROBE_FILE, PROBE_TENSORS
from sae_cli.terminal.plus_minus import plus_minus

FEATURES = "features"
_AGREE = ("concept", "features", "worth", "recall", "false positives", "of a dense probe", "less that")


def concepts(run: FinishedRun) -> Section:
    """What a probe has found."""
    report: ProbeReport = run.read_json(PROBE_FILE)
    own = _counted(report["concepts"])
    skipped = len(report["skipped"])
    text = (
        f"{run.directory}: of each concept the feature that tells it best on tokens for fitting, measured on other "
        f"documents, against what it must beat; negatives are matched by token unless it says easy. The floor is what "
        f"the best of {report['features']:,} features has where labels tell nothing."
    )
    if skipped:
        text += f" {skipped} are left out, of which there are too few tokens."
    tables = [_table(own)]
    if agreed := _agreement(report["concepts"]):
        tables.append(agreed)
    return Section(name="concepts", title="Concepts", text=text, tables=tables, charts=_charts(own))


def best_concepts(run: FinishedRun) -> dict[int, str]:
    """Of each feature the concept that it tells best, with its AUROC and the floor, in words; those that tell none
    better than the best of all does by chance are left out."""
    report: ProbeReport = run.read_json(PROBE_FILE)
    if PROBE_TENSORS not in run.manifest.files:
        return {}
    auroc = run.read_tensors(PROBE_TENSORS)["auroc"].numpy()
    if auroc.shape != (len(report["concepts"]), report["features"]):
        raise ValueError(f"AUROC of {auroc.shape} concepts and features")
    counted = _counted(report["concepts"])
    rows = [number for number, each in enumerate(report["concepts"]) if each in counted]
    away = np.abs(auroc[rows] - 0.5)
    found = {}
    for feature, place in enumerate(away.argmax(axis=0).tolist()):
        concept, value = counted[place], float(auroc[rows[place], feature])
        floor = concept["bases"][FEATURES]["floor"]
        if floor is not None and abs(value - 0.5) > floor - 0.5:
            sign = "" if value > 0.5 else "not "
            by_chance = f"(best of all by chance {floor:.3f})"
            found[feature] = f"{sign}{_named(concept)}: AUROC {max(value, 1 - value):.3f} {by_chance}"
    return found


def _counted(reports: Sequence[ConceptReport]) -> list[ConceptReport]:
    matched = {each["concept"] for each in reports if each["kind"] == "matched"}
    return [each for each in reports if each["kind"] == "matched" or each["concept"] not in matched]


def _named(each: ConceptReport) -> str:
    return each["concept"] + ("" if each["kind"] == "matched" else " (easy)")


def _table(own: Sequence[ConceptReport]) -> Table:
    others = list(own[0]["bases"])[1:] if own else []
    header = ("concept", "feature", "AUROC", *others, "floor", "k95", "F1", "dense x", "dense x̂", "dense error")
    rows = []
    for each in own:
        basis = each["bases"][FEATURES]
        best, floor, k95 = basis["best"], basis["floor"], basis["k95"]
        rows.append((
            _named(each),
            Cell(text=("" if best["sign"] > 0 else "not ") + str(best["feature"]), order=best["feature"]),
            Cell(text=plus_minus(best["auroc"], best["auroc_se"], 3), order=best["auroc"]),
            *(_cell(each["bases"][name]["best"]["auroc"]) for name in others),
            Cell(text="-", order=None) if floor is None else _cell(floor),
            Cell(text="-" if k95 is None else str(k95), order=k95),
            _cell(best["f1"]),
            *(_cell(each["dense"][name]["auroc"]) for name in ("x", "x_hat", "error")),
        ))  # fmt: skip
    return Table(rows=rows, header=header, sortable=True, title="AUROC on test tokens")


def _cell(value: float) -> Cell:
    return Cell(text=f"{value:.3f}", order=value)


def _agreement(reports: Sequence[ConceptReport]) -> Table | None:
    rows = []
    for each in reports:
        if not (agreed := each.get("agree")):
            continue
        last = agreed["by_m"][-1]
        where = last["shifted"] or last["same"]
        apart, low, high = (last[key] for key in ("fpr_less_dense", "fpr_less_dense_low", "fpr_less_dense_high"))
        less = "-" if apart is None else f"{apart:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")
        rows.append((
            each["concept"], str(last["m"]), f"{agreed['m_eff']:.1f}", f"{where[FEATURES]['recall']:.3f}",
            _cell(where[FEATURES]["fpr"]), _cell(where["dense"]["fpr"]), less,
        ))  # fmt: skip
    return (
        Table(rows=rows, header=_AGREE, title="Taken for the concept only where all features agree") if rows else None
    )


def _charts(own: Sequence[ConceptReport]) -> list[Chart]:
    if not own:
        return []
    names = [_named(each) for each in own]
    best = [each["bases"][FEATURES]["best"] for each in own]
    error = np.array([np.nan if each["auroc_se"] is None else each["auroc_se"] for each in best])
    series = [
        Series(
            name="best feature",
            columns={
                "concept": names,
                "auroc": np.array([each["auroc"] for each in best]),
                "error": error,
                "feature": np.array([each["feature"] for each in best]),
            },
            x="concept", y="auroc", error="error", label="concept", feature="feature",
        )
    ]  # fmt: skip
    for color, name in enumerate(list(own[0]["bases"])[1:], start=1):
        values = np.array([each["bases"][name]["best"]["auroc"] for each in own])
        columns = {"concept": names, "auroc": values}
        series.append(Series(name=name, columns=columns, x="concept", y="auroc", label="concept", color=color))
    chart = Chart(
        name="concept_aurocs",
        title="The best feature of each concept, and what it is held against",
        series=series,
        x=Axis(title="concept"),
        y=[Axis(title="AUROC on test tokens")],
        lines=[Line(axis="y", value=0.5, label="chance")],
        caption="Bars are standard errors over documents. A mark leads to its feature.",
    )
    return [chart, *_curves(own)]


def _curves(own: Sequence[ConceptReport]) -> list[Chart]:
    """Mean over concepts of the AUROC of probes on k features."""
    series = []
    for color, name in enumerate(own[0]["bases"]):
        ks, means = _means([each["bases"][name] for each in own])
        if ks:
            columns = {"k": np.array(ks), "auroc": np.array(means)}
            series.append(Series(name=name, columns=columns, x="k", y="auroc", mark="line+points", color=color))
    if not series:
        return []
    dense = float(np.mean([each["dense"]["x"]["auroc"] for each in own]))
    return [
        Chart(
            name="concept_k",
            title="How many features a concept takes",
            series=series,
            x=Axis(title="features of the probe", log=True),
            y=[Axis(title="AUROC, mean over concepts")],
            lines=[Line(axis="y", value=dense, label="all coordinates")],
            caption=f"Means over {len(own)} concepts of logistic regressions on the k features furthest apart.",
        )
    ]


def _means(bases: Sequence[BasisReport]) -> tuple[list[int], list[float]]:
    ks = [each["k"] for each in bases[0]["sparse"]]
    return ks, [float(np.mean([basis["sparse"][place]["auroc"] for basis in bases])) for place in range(len(ks))]
