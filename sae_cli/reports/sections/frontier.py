"""Several dictionaries: what sparsity costs, and a table of all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from sae_cli.artifacts.survey import REPORT
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Figure, Of, capitalized
from sae_cli.reports.sources import Subject
from sae_cli.reports.values import Axis, Cell, Chart, Section, Series, Table
from sae_cli.reports.words import figure_cell, headings, number
from sae_cli.runs.definitions import UNDEFINED, is_undefined
from sae_cli.runs.dictionary_run import PRUNE

_COSTS = ("loss_recovered", "fvu", "ce_increase")
_COLUMNS = ("l0", "fvu", "loss_recovered", "ce_increase", "alive", "dead", "dense_1", "dense_10")
_TELLING = (
    "model.name",
    "model.path",
    "hook.point",
    "hook.path",
    "hook.side",
    "layer",
    "sae.architecture",
    "dict_size",
)


def frontier(subjects: Sequence[Subject], out: Path) -> list[Section]:
    """The frontier, and the table of runs with links to their own reports."""
    names = short_names([each.run.directory for each in subjects])
    measured = [(each, name) for each, name in zip(subjects, names, strict=True) if each.evaluations]
    charts = [chart for cost in _COSTS if (chart := _chart(measured, figures(Of.EVALUATION)[cost], out))]
    missing = [f"No evaluation: sae eval {each.run.directory}" for each in subjects if not each.evaluations]
    if undefined := [name for each, name in measured if is_undefined(_figures(each), "loss_recovered")]:
        missing.append(
            f"Loss recovered {UNDEFINED} for {len(undefined)} of {len(measured)}, whose zero ablation does not clearly "
            f"raise the loss: {', '.join(undefined)}."
        )
    kinds = {each.evaluations[0].name for each, _ in measured}
    if len(kinds) > 1:
        missing.append(f"These figures are of evaluations with different settings ({', '.join(sorted(kinds))}).")
    sections = [_table(subjects, names, out)]
    if charts or missing:
        text = "Pruned dictionaries are joined to what they were made of. Error bars are one standard error."
        sections.insert(0, Section(name="frontier", title="Frontier", text=text, charts=charts, missing=missing))
    return sections


def short_names(directories: Sequence[Path]) -> list[str]:
    """The directories without the beginning that all have in common."""
    whole = [each.absolute() for each in directories]
    common = os.path.commonpath(whole) if len(whole) > 1 else whole[0].parent
    return [os.path.relpath(each, common) for each in whole]


def link_to(directory: Path, out: Path) -> str:
    """The address of a run's own report as seen from this one; nothing where it has none."""
    path = directory / REPORT
    if not path.is_file() or path.resolve() == out.resolve():
        return ""
    return "./" + quote(Path(os.path.relpath(path.resolve(), out.resolve().parent)).as_posix())


def _chart(measured: Sequence[tuple[Subject, str]], cost: Figure, out: Path) -> Chart | None:
    key, l0 = cost.key, figures(Of.EVALUATION)["l0"]
    chosen = [(each, name) for each, name in measured if _has(each, key) and _has(each, "l0")]
    if not chosen:
        return None
    groups: dict[str, list[tuple[Subject, str]]] = {}
    labels = _group_names([each for each, _ in chosen])
    for (each, name), label in zip(chosen, labels, strict=True):
        groups.setdefault(label, []).append((each, name))
    series = [_points(label, members, key, out, color) for color, (label, members) in enumerate(groups.items())]
    if joined := _joined(chosen, key):
        series.append(joined)
    best = max(chosen, key=lambda each: _figures(each[0])[key]), min(chosen, key=lambda each: _figures(each[0])[key])
    return Chart(
        name=f"frontier_{key}",
        title=f"{capitalized(cost.short)} over {l0.short}",
        series=series,
        x=Axis(title=l0.axis),
        y=[Axis(title=cost.axis)],
        key=[
            ("dictionaries", f"{len(chosen):,}"),
            ("highest", f"{number(_figures(best[0][0])[key])} ({best[0][1]})"),
            ("lowest", f"{number(_figures(best[1][0])[key])} ({best[1][1]})"),
        ],
    )


def _points(label: str, members: Sequence[tuple[Subject, str]], key: str, out: Path, color: int) -> Series:
    members = sorted(members, key=lambda each: (_figures(each[0])["l0"], each[1]))
    columns: dict[str, Any] = {"run": [name for _, name in members]}
    for name in ("l0", key, f"{key}_se"):
        columns[name] = np.array([_value(_figures(each), name) for each, _ in members])
    columns["report"] = [link_to(each.run.directory, out) for each, _ in members]
    error = f"{key}_se" if np.isfinite(columns[f"{key}_se"]).any() else ""
    return Series(name=label, columns=columns, x="l0", y=key, error=error, label="run", href="report", color=color)


def _joined(chosen: Sequence[tuple[Subject, str]], key: str) -> Series | None:
    """A line from each dictionary that was pruned to what was made of it."""
    by_place = {each.run.directory.resolve(): (each, name) for each, name in chosen}
    ends = []
    for each, name in chosen:
        parents = each.run.manifest.parents if each.command == PRUNE else []
        if parents and (parent := by_place.get(Path(parents[0].path).resolve())):
            ends += [(name, *parent), (name, each, name)]
    if not ends:
        return None
    columns = {
        "pruned": [name for name, _, _ in ends],
        "run": [name for _, _, name in ends],
        "l0": np.array([_figures(each)["l0"] for _, each, _ in ends]),
        key: np.array([_figures(each)[key] for _, each, _ in ends]),
    }
    return Series(name="pruned from", columns=columns, x="l0", y=key, group="pruned", mark="line", color=4, faint=True)


def _group_names(subjects: Sequence[Subject]) -> list[str]:
    """What tells the dictionaries apart, but for how sparse they are."""
    differing = [key for key in _TELLING if len({str(each.settings.get(key)) for each in subjects}) > 1]
    if "model.name" in differing and "model.path" in differing:
        differing.remove("model.path")
    names = []
    for each in subjects:
        kind = "pruned" if each.command == PRUNE else "trained"
        told = [str(each.settings.get(key)) for key in differing]
        names.append(
            ", ".join([kind, *(f"layer {t}" if k == "layer" else t for k, t in zip(differing, told, strict=True))])
        )
    return names


def _table(subjects: Sequence[Subject], names: Sequence[str], out: Path) -> Section:
    rows = []
    for each, name in zip(subjects, names, strict=True):
        measured = _figures(each)
        run = Cell(text=name, href=link_to(each.run.directory, out))
        evaluation = each.evaluations[0].name if each.evaluations else ""
        rows.append((run, each.command, *(figure_cell(measured, key) for key in _COLUMNS), evaluation))
    header = ("run", "made by", *headings(_COLUMNS), "evaluation")
    text = "A click on a column's name sorts; a run that has a report of its own leads to it (sae report RUN)."
    return Section(name="runs", title="Runs", text=text, tables=[Table(rows=rows, header=header, sortable=True)])


def _figures(subject: Subject) -> Mapping[str, Any]:
    return subject.evaluations[0].figures if subject.evaluations else {}


def _has(subject: Subject, key: str) -> bool:
    return isinstance(_figures(subject).get(key), int | float)


def _value(figures: Mapping[str, Any], key: str) -> float:
    value = figures.get(key)
    return float(value) if isinstance(value, int | float) else float("nan")
