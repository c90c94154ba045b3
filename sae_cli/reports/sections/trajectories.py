"""How rare features became rare: their density through training, exempt from resampling or not."""

from __future__ import annotations

import numpy as np

from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Of
from sae_cli.metrics.rare import DensityHistory
from sae_cli.metrics.report import RareReport, TrajectoriesReport
from sae_cli.reports.sources import Subject
from sae_cli.reports.values import Axis, Chart, Section, Series, Table
from sae_cli.reports.words import number
from sae_cli.runs.dictionary_run import read_density
from sae_cli.runs.file_names import DENSITY_FILE

_MOST_LINES = 60
_SETS = {
    "rare_now": ("rare at the end", 0),
    "exempt": ("rare early, exempt from resampling", 1),
    "not_exempt": ("rare early, not exempt", 2),
    "resampled": ("rare early, resampled", 5),
}
_DENSITY = Axis(title=figures(Of.FEATURE)["frequency"].axis, log=True)
_TOKENS = Axis(title="tokens seen", log=True)


def trajectories(subject: Subject) -> Section | None:
    """Of a training run: pooled, and feature by feature."""
    if DENSITY_FILE not in subject.run.manifest.files:
        return None
    rare = subject.figures_with("rare")
    looks = rare["rare"] if rare else None
    followed = looks.get("trajectories") if looks else None
    pooled = _pooled(followed) if followed else None
    single = _single(read_density(subject.run), subject, looks.get("below", 1e-4) if looks else 1e-4)
    charts = [each for each in (pooled, single) if each]
    missing = [] if rare else [f"No trajectories of sets of features: sae eval {subject.run.directory}"]
    text = "Densities in windows of training; a window in which none fired is pooled with those after it."
    tables = _rare_tables(looks) if looks else []
    if not (charts or tables or missing):
        return None
    return Section(name="rare", title="Rare features", text=text, charts=charts, tables=tables, missing=missing)


def _pooled(found: TrajectoriesReport) -> Chart | None:
    series = []
    for name, (label, color) in _SETS.items():
        each = found.get(name)
        if not each or not each["density"]:
            continue
        columns = {key: np.array(each[key], dtype=np.float64) for key in ("step", "tokens_seen", "density")}
        label = f"{label} ({each['features']:,})"
        series.append(
            Series(name=label, columns=columns, x="tokens_seen", y="density", mark="line+points", color=color)
        )
    if not series:
        return None
    return Chart(
        name="trajectories",
        title="Density of rare features through training",
        series=series,
        x=_TOKENS,
        y=[_DENSITY],
        caption="The mean over the features of each set.",
        key=[
            (label, f"late slope {number(found[name]['late_slope'])}")
            for name, (label, _) in _SETS.items()
            if name in found
        ],
    )


def _single(history: DensityHistory, subject: Subject, below: float) -> Chart | None:
    """Features that are rare in the evaluation, one line each."""
    if not subject.evaluations or "frequency" not in subject.evaluations[0].features:
        return None
    frequency = subject.evaluations[0].features["frequency"].numpy()
    rare = np.flatnonzero((frequency > 0) & (frequency < below))
    chosen = rare[np.argsort(frequency[rare], kind="stable")][:_MOST_LINES]
    if not len(chosen) or not len(history.step):
        return None
    count, tokens = history.count.numpy()[:, chosen].T, history.tokens.numpy()
    seen = np.cumsum(tokens) - tokens / 2
    exempt = history.exempt.numpy()[chosen]
    series = [
        _lines(name, chosen[part], count[part], tokens, seen, history.step.numpy(), color)
        for name, part, color in (("not exempt", ~exempt, 0), ("exempt from resampling", exempt, 1))
        if part.any()
    ]
    return Chart(
        name="rare_features",
        title="Rare features, one by one",
        series=series,
        x=_TOKENS,
        y=[_DENSITY],
        caption=f"The {len(chosen):,} rarest of {len(rare):,} below {below:g}; a gap where a feature did not fire.",
        key=[("features", f"{len(chosen):,}"), ("windows", f"{len(tokens):,}")],
    )


def _lines(
    name: str,
    features: np.ndarray,
    count: np.ndarray,
    tokens: np.ndarray,
    seen: np.ndarray,
    step: np.ndarray,
    color: int,
) -> Series:
    n, windows = count.shape
    density = np.where(count > 0, count / tokens, np.nan)
    columns = {
        "feature": np.repeat(features, windows),
        "step": np.tile(step, n),
        "tokens_seen": np.tile(seen, n),
        "count": count.reshape(-1),
        "tokens": np.tile(tokens, n),
        "density": density.reshape(-1),
    }
    return Series(
        name=name, columns=columns, x="tokens_seen", y="density", group="feature", feature="feature", label="feature",
        mark="line+points", color=color, faint=True,
    )  # fmt: skip


def _rare_tables(rare: RareReport) -> list[Table]:
    """What rare features look like, beside the others."""
    rows = []
    for name in ("rare", "others"):
        each = rare.get(name) or {}
        if each.get("features"):
            quantiles = [
                f"{number(each[key]['q50'])} ({number(each[key]['q05'])} to {number(each[key]['q95'])})"
                for key in ("frequency", "b_enc", "de_projection")
            ]
            rows.append((name, number(each["features"]), *quantiles, number(each["encoder_alignment"])))
    header = ("", "features", "frequency", "bias", "D/E projection", "mean cosine of encoder rows")
    return [Table(rows=rows, header=header, title="Median (5 % to 95 %)")] if rows else []
