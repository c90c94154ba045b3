"""The figures of an evaluation: reconstruction, losses, domains, baselines, ablations, the place among other models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sae_cli.documents import Facts
from sae_cli.evaluation.loss_tables import CE, PARAMETERS, caveat_of, size_key, why_missing
from sae_cli.metrics import catalogue
from sae_cli.metrics.catalogue import CONDITIONS, LOSSES
from sae_cli.metrics.figure import Group, Of
from sae_cli.metrics.report import DomainsReport, EquivalentReport, JointReport, existing, is_placed
from sae_cli.reports.sources import Subject
from sae_cli.reports.values import Axis, Chart, Line, Section, Series, Table
from sae_cli.reports.words import figure_cell, headings, number, with_error
from sae_cli.runs.definitions import UNDEFINED, is_undefined

_OF_DOMAINS = ("tokens", "ce_clean", "ce_sae", "ce_increase", "ce_increase_direct", "loss_recovered")
_OF_BASELINES = ("l0", "bits", "fvu", "loss_recovered", "ce_increase", "token_entropy_median")


def figures(subject: Subject) -> Section:
    """The key figures; of a pruned dictionary beside those before."""
    name, title = "figures", "Key figures"
    if not subject.evaluations:
        return Section(name=name, title=title, missing=[f"No evaluation: sae eval {subject.run.directory}"])
    first = subject.evaluations[0]
    report = first.figures
    tables = [
        *_before_and_after(report.get("before"), report),
        Table(rows=_reconstruction(report)),
        *_losses(report),
        *_domains(report),
        Table(rows=_everything(report), title="Every figure by its name", folded=True),
    ]
    text = f"{number(report.get('tokens'))} held-out tokens; evaluation {first.name}; ± is one standard error."
    return Section(name=name, title=title, text=text, tables=[each for each in tables if each.rows])


def joint_figures(report: JointReport) -> Section:
    """Of several dictionaries that were put into a model at once."""
    alone = ("features", "l0", "l0_alone", "fvu", "fvu_alone")
    rows = [
        (name, number(each["run"]), *(figure_cell(each, key) for key in alone))
        for name, each in report["dictionaries"].items()
    ]
    tables = [*_losses(report), *_domains(report)]
    tables.insert(0, Table(rows=rows, header=("place", "run", *headings(alone, Of.SEVERAL)), sortable=True))
    tables.append(Table(rows=_everything(report), title="Every figure by its name", folded=True))
    text = f"{number(report.get('tokens'))} held-out tokens; ± is one standard error."
    return Section(name="figures", title="Key figures", text=text, tables=tables)


def baselines(subject: Subject) -> Section | None:
    """What the trivial explanation, other bases and other dictionaries do on the same text, and what this one adds."""
    report = subject.figures_with("baselines") or subject.figures_with("controls")
    if report is None:
        missing = f"No baselines: sae eval {subject.run.directory} 'baselines=[token,token2,pca,pca_at_bits]'"
        return Section(name="baselines", title="Baselines", missing=[missing]) if subject.is_of_a_model else None
    beside: dict[str, Facts] = {**report.get("baselines", {}), **report.get("controls", {})}
    of_all: dict[str, Facts] = {"dictionary": report, **beside}
    rows = [
        (name, *(figure_cell(each, key) for key in _OF_BASELINES), figure_cell(each, "recovered_above"))
        for name, each in of_all.items()
    ]
    header = ("", *headings(_OF_BASELINES), "of what it leaves, the dictionary recovers")
    columns = {"basis": list(of_all)} | {
        key: np.array([_float(each.get(key)) for each in of_all.values()])
        for key in ("loss_recovered", "loss_recovered_se", "fvu")
    }
    known = catalogue.figures(Of.EVALUATION)
    recovered = Series(
        name=known["loss_recovered"].short,
        columns=columns,
        x="basis",
        y="loss_recovered",
        error="loss_recovered_se",
        label="basis",
    )
    panel = 1 if subject.has_losses else 0
    unexplained = Series(
        name=known["fvu"].short, columns=columns, x="basis", y="fvu", label="basis", panel=panel, color=1
    )
    series = [recovered, unexplained] if subject.has_losses else [unexplained]
    chart = Chart(
        name="baselines",
        title="The dictionary beside others on the same text",
        series=series,
        x=Axis(title="basis"),
        y=[Axis(title=each.name) for each in series],
        key=[(name, _recovered_or_unexplained(each, subject.has_losses)) for name, each in of_all.items()],
    )
    return Section(
        name="baselines", title="Baselines", tables=[Table(rows=rows, header=header, sortable=True)], charts=[chart]
    )


def _recovered_or_unexplained(figures: Facts, losses: bool) -> str:
    """What is said of a bar."""
    if not losses:
        return f"FVU {with_error(figures, 'fvu')}"
    return f"loss recovered {with_error(figures, 'loss_recovered') or UNDEFINED}"


def equivalent(subject: Subject) -> Section | None:
    """Where the model with the dictionary in it falls among reference models, if these were asked for."""
    if not subject.has_losses:
        return None
    missing = f"No reference models: sae eval {subject.run.directory} 'references=[demo-xs,demo-s]'"
    found = references(subject.figures_with("references"))
    return found or Section(name="equivalent", title="Equivalent model", missing=[missing])


def references(report: object) -> Section | None:
    """Where the model with the dictionary in it falls among reference models."""
    if not is_placed(report) or not report["references"]:
        return None
    unit, found, placed = report["references_unit"], report["references"], report.get("equivalent_model")
    shown = "CE, nats" if unit == CE else "bits per byte"
    loss = found[0][unit] - found[0]["difference_to_sae"]
    key = size_key(placed["axis"] if placed else PARAMETERS)
    curve = sorted((each for each in found if each.get(key)), key=lambda each: each[key])
    columns = {
        "model": [str(each["name"]) for each in curve],
        key: np.array([float(each[key]) for each in curve]),
        unit: np.array([each[unit] for each in curve]),
        "se": np.array([_float(each["se"]) for each in curve]),
    }
    series = [Series(name="references", columns=columns, x=key, y=unit, error="se", label="model", mark="line+points")]
    if placed and (value := placed["value"]) is not None:
        at = {"model": ["with the dictionary"], key: np.array([float(value)]), unit: np.array([loss])}
        series.append(Series(name="with the dictionary", columns=at, x=key, y=unit, label="model", color=5))
    rows = [
        (
            str(each["name"]),
            number(each.get("parameters")),
            number(each.get("step")),
            f"{each[unit]:.4f}",
            f"{each['difference_to_sae']:+.4f}",
        )
        for each in found
    ]
    chart = Chart(
        name="equivalent_model",
        title="The model with the dictionary among reference models",
        series=series,
        x=Axis(title="parameters" if key == "parameters" else "training steps", log=True),
        y=[Axis(title=shown)],
        lines=[Line(axis="y", value=loss, label="with the dictionary")],
        caption="Linear in the logarithm of size between references; nothing is extrapolated.",
        key=[("loss with the dictionary", f"{loss:.4f}"), ("as good as", _as_good_as(placed, key))],
    )
    table = Table(rows=rows, header=("reference", "parameters", "step", shown, "minus the spliced model"))
    return Section(name="equivalent", title="Equivalent model", tables=[table], charts=[chart])


def ablations(subject: Subject) -> Section | None:
    """What taking single features out does."""
    report = subject.figures_with("ablation")
    if report is None or "ablation" not in report:
        return None
    rows = [
        (
            str(each["feature"]),
            number(each["tokens"]),
            with_error(each, "ce_increase"),
            " ".join(map(repr, each["raises"][:5])),
            " ".join(map(repr, each["lowers"][:5])),
        )
        for each in report["ablation"]
    ]
    header = ("without feature", "tokens it fires on", "CE increase there, nats", "raises", "lowers")
    return Section(name="ablation", title="Features taken out", tables=[Table(rows=rows, header=header)])


def _reconstruction(report: Facts) -> list[tuple[str, str]]:
    there = [each for each in catalogue.grouped(Group.RECONSTRUCTION) if _has(report, each.key)]
    return [(each.axis, number(report[each.key])) for each in there]


def _before_and_after(before: Facts | None, report: Facts) -> list[Table]:
    if not before:
        return []
    known = catalogue.figures(Of.EVALUATION)
    rows = [
        (
            known[key].named,
            *(UNDEFINED if is_undefined(each, key) else number(each.get(key)) for each in (before, report)),
        )
        for key, value in before.items()
        if value is not None or report.get(key) is not None
    ]
    rows.insert(0, (known["killed"].label, "", number(report.get("killed"))))
    return [Table(rows=rows, title="Before and after", header=("", "before", "after"))]


def _losses(report: Facts) -> list[Table]:
    rows = []
    for condition, label in CONDITIONS.items():
        cells = [
            with_error(report, f"{kind}_{condition}{path}")
            or (with_error(report, f"{kind}_clean") if condition == "clean" else "")
            for kind in LOSSES
            for path in ("", "_direct")
        ]
        rows.append((label, *cells))
    header = (
        "in the place of the activations",
        *(f"{label}{path}" for label in LOSSES.values() for path in ("", ", direct path")),
    )
    effects = [(each.named, (each.key, f"{each.key}_direct")) for each in catalogue.grouped(Group.EFFECT)]
    recovered = [
        (label, *(with_error(report, key) or why_missing(report, key) for key in keys))
        for label, keys in effects
        if not keys[0].endswith("_direct") and any(_has(report, key) or is_undefined(report, key) for key in keys)
    ]
    if not any(any(row[1:]) for row in rows):
        return []
    return [Table(rows=rows, header=header), Table(rows=recovered, header=("", "all paths", "direct path"))]


def _domains(report: DomainsReport) -> list[Table]:
    domains = report.get("domains") or {}
    rows = [(name, *(figure_cell(each, key) for key in _OF_DOMAINS)) for name, each in domains.items()]
    known = catalogue.figures(Of.EVALUATION)
    header = ("domain", *(known[key].named for key in _OF_DOMAINS))
    return [Table(rows=rows, header=header, title="By domain", sortable=True)] if rows else []


def _everything(report: Facts) -> list[tuple[str, str]]:
    plain = {key: value for key, value in report.items() if isinstance(value, int | float | str)}
    return [(key, f"{value:,}" if type(value) is int else str(value)) for key, value in sorted(plain.items())]


def _as_good_as(placed: EquivalentReport | None, key: str) -> str:
    if placed is None:
        return "no reference has a place on the axis"
    if placed["outside"]:
        return f"{placed['outside']} of the references{caveat_of(placed)}"
    ends = " to ".join("…" if end is None else number(float(end)) for end in (placed["low"], placed["high"]))
    return f"a model of {number(float(existing(placed, 'value')))} {key} ({ends}){caveat_of(placed)}"


def _has(report: Facts, key: str) -> bool:
    return report.get(key) is not None


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def optional(sections: Sequence[Section | None]) -> list[Section]:
    """Those that there are."""
    return [each for each in sections if each is not None]
