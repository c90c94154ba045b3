"""How often features fire: the histogram of frequencies, and density beside bias and D/E projection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sae_cli.metrics.catalogue import figures, shown
from sae_cli.metrics.figure import In, Of
from sae_cli.reports.sections.histograms import counts, distribution, log_edges
from sae_cli.reports.sources import Subject
from sae_cli.reports.values import Axis, Chart, Line, Section, Series, Table
from sae_cli.reports.words import number, share

Statistics = Mapping[str, np.ndarray]

_RARE, _DENSE = 1e-4, 0.1
_FREQUENCY, _BIAS, _PROJECTION = (
    Axis(title=figures(Of.FEATURE)[key].axis, log=key == "frequency") for key in ("frequency", "b_enc", "de_projection")
)


def frequencies(subject: Subject, statistics: Statistics, before: Statistics | None) -> Section:
    """The histogram of frequencies, with the limits that were pruned at."""
    report, frequency = subject.evaluations[0].figures, statistics["frequency"]
    parts = [("after pruning" if before else "features", frequency)]
    if before:
        parts.append(("before pruning", before["frequency"]))
    edges = log_edges(np.concatenate([each[each > 0] for _, each in parts]))
    series = [counts(each[each > 0], edges, name, "features", 5 * i) for i, (name, each) in enumerate(parts)]
    chart = Chart(
        name="frequency",
        title="How often features fire",
        series=series,
        x=_FREQUENCY,
        y=[Axis(title="features")],
        lines=_limits(subject),
        caption="Features that never fired are not drawn.",
        key=_shares(frequency, report),
    )
    text = (
        f"On {number(report.get('feature_tokens'))} tokens of the {report.get('feature_split', 'train')} split; "
        f"resolution {number(report.get('frequency_resolution'))}."
    )
    table = Table(rows=_shares(frequency, report))
    return Section(name="frequency", title="Frequencies", text=text, tables=[table], charts=[chart])


def density_cloud(statistics: Statistics, rare_below: float) -> Section | None:
    """Density, bias and D/E projection of every feature that fires, in space and from three sides."""
    if not {"frequency", "b_enc", "de_projection"} <= set(statistics):
        return None
    groups = _groups(statistics["frequency"], rare_below)
    sides = (
        ("density_bias", "Density and bias", ("frequency", _FREQUENCY), ("b_enc", _BIAS)),
        ("density_projection", "Density and D/E projection", ("frequency", _FREQUENCY), ("de_projection", _PROJECTION)),
        ("bias_projection", "Bias and D/E projection", ("b_enc", _BIAS), ("de_projection", _PROJECTION)),
    )
    key = [(name, f"{int(chosen.sum()):,} features") for name, chosen, _ in groups]
    space = Chart(
        name="density3d",
        title="Density, bias and D/E projection",
        series=[_cloud(statistics, *group, "frequency", "b_enc", "de_projection") for group in groups],
        x=_FREQUENCY,
        y=[_BIAS],
        z=_PROJECTION,
        caption="Turn it with the pointer; a feature's point leads to its page. D/E is 1 for a feature that works.",
        key=key,
    )
    charts = [space]
    for name, title, (x, x_axis), (y, y_axis) in sides:
        series = [_cloud(statistics, *group, x, y) for group in groups]
        charts.append(Chart(name=name, title=title, series=series, x=x_axis, y=[y_axis], key=key))
    return Section(name="density", title="Density, bias, projection", charts=charts)


def distributions(statistics: Statistics) -> Section | None:
    """One histogram a statistic, over the features that fire."""
    alive = statistics["count"] > 0
    charts = [
        chart
        for each in shown(Of.FEATURE, In.HISTOGRAM)
        if each.key in statistics and (chart := distribution(each, statistics[each.key][alive]))
    ]
    text = "Over the features that fire."
    return Section(name="distributions", title="Activations and norms", text=text, charts=charts) if charts else None


def _limits(subject: Subject) -> list[Line]:
    """The limits of a pruning, and the marks that features are counted by."""
    settings = subject.run.manifest.settings if subject.command != "train" else {}
    limits = [
        Line(axis="x", value=float(settings[key]), label=f"{key} {settings[key]:g}")
        for key in ("max_freq", "min_freq")
        if isinstance(settings.get(key), int | float)
    ]
    taken = {each.value for each in limits}
    counted = [Line(axis="x", value=value, label=label) for value, label in ((0.01, "1 %"), (0.1, "10 %"))]
    return [*limits, *(each for each in counted if each.value not in taken)]


def _shares(frequency: np.ndarray, report: Mapping[str, Any]) -> list[tuple[str, str]]:
    n = len(frequency)
    below = (report.get("rare") or {}).get("below", _RARE)
    rare = int(((frequency > 0) & (frequency < below)).sum())
    return [
        ("features", f"{n:,}"),
        ("dead", share(int((frequency == 0).sum()), n)),
        (f"rare, on less than {below:g} of tokens", share(rare, n)),
        ("dense, on more than 1 %", share(int((frequency > 0.01).sum()), n)),
        ("dense, on more than 10 %", share(int((frequency > 0.1).sum()), n)),
        ("median frequency", number(float(np.median(frequency)))),
    ]


def _groups(frequency: np.ndarray, rare_below: float) -> Sequence[tuple[str, np.ndarray, int]]:
    rare, dense = (frequency > 0) & (frequency < rare_below), frequency > _DENSE
    groups = [
        (f"on less than {rare_below:g} of tokens", rare, 5),
        ("others", (frequency > 0) & ~rare & ~dense, 0),
        ("on more than 10 %", dense, 1),
    ]
    return [each for each in groups if each[1].any()]


def _cloud(statistics: Statistics, name: str, chosen: np.ndarray, color: int, x: str, y: str, z: str = "") -> Series:
    columns = {"feature": np.flatnonzero(chosen)}
    columns |= {
        each: statistics[each][chosen]
        for each in ("count", "frequency", "b_enc", "de_projection")
        if each in statistics
    }
    return Series(name=name, columns=columns, x=x, y=y, z=z, feature="feature", label="feature", color=color)
