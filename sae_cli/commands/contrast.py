"""`sae contrast`: figures of dictionaries of one recipe against those of another, paired by seed and by row of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.contrast import ContrastConfig, Curve
from sae_cli.config.evaluation import Baseline
from sae_cli.config.prediction import Prediction, prediction
from sae_cli.errors import RequestError
from sae_cli.evaluation import arms
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION
from sae_cli.metrics.catalogue import contrasted
from sae_cli.metrics.contrast import Difference, corrected
from sae_cli.metrics.contrast_lines import difference_text, figure_and_baseline, line_of, name_of, verdict_words
from sae_cli.metrics.figure import Better, Group
from sae_cli.metrics.report import ContrastLine, ContrastReport, PairedReport, PredictionReport
from sae_cli.runs.definitions import UNDEFINED
from sae_cli.runs.file_names import CONTRAST_FILE
from sae_cli.runs.stored_figures import shows_stored

CONTRASTED = contrasted()
"""The figures that may be."""
_ALONG_L0 = [
    key
    for key, each in CONTRASTED.items()
    if each.has_error and each.better in (Better.HIGHER, Better.LOWER) and key != "l0" and each.group is not Group.TRUTH
]
"""Those of which there is a curve in log L0."""


class _Line(NamedTuple):
    """A figure, and the baseline that it is against if it is against one."""

    key: str
    baseline: Baseline | None


def run(config: ContrastConfig, directory: Path) -> StageResult:
    """Hold the dictionaries `config.a` against those of `config.against`."""
    return _result(once(Claim(config, directory, doing="contrasting"), _contrast))


def _contrast(claim: Claim[ContrastConfig]) -> FinishedRun:
    config = claim.config
    _check_figures(config)
    groups = arms.grouped(config)
    known = sum(arms.is_evaluated(group, config) for group in groups)
    # What is predicted is in the manifest from here on; what follows is measured after it.
    with claim.open(parents=[each.run for group in groups for each in group.all]) as claimed:
        measured = arms.evaluated(groups, config)
        all_of_them = arms.differences(measured, config, CONTRASTED)
        lines = [(_Line(key, baseline), each) for key, baseline, each in all_of_them]
        there = {line: each for line, each in lines if each is not None}
        found = dict(zip(there, corrected(list(there.values())), strict=True))
        rows = measured[0].a[0].rows
        report: ContrastReport = {
            "pairs": _about(groups, config),
            "sweep": _sweep(groups, config),
            "documents": rows.documents if rows else None,
            "lines": [_stored(line, each) for line, each in found.items()],
            "missing": [name_of(line.key, _called(line.baseline)) for line, each in lines if each is None],
            "predictions": [_judged(text, measured, found) for text in config.predict],
            "evaluated_before": known,
            "metrics_version": VERSION,
        }
        claimed.write_json(CONTRAST_FILE, report)
        return claimed.finish(seconds=claim.seconds())


def _check_figures(config: ContrastConfig) -> None:
    for each in config.figures:
        if each not in CONTRASTED:
            close = get_close_matches(each, CONTRASTED, n=1)
            meant = f"did you mean {close[0]}?" if close else f"expected some of {', '.join(CONTRASTED)}"
            raise RequestError(f"figures={each}: no figure of a dictionary is called that; {meant}")
        if config.curve is not Curve.none and each not in _ALONG_L0:
            raise RequestError(f"figures={each}: has no curve in L0; expected figures of reconstruction or loss")


def _about(groups: Sequence[arms.Group], config: ContrastConfig) -> list[PairedReport]:
    names = ",".join(each.value for each in config.baselines())
    return [
        {"a": str(a.run.directory), "b": names or _other(group, config), "seed": group.seed}
        for group in groups
        for a in group.a
    ]


def _other(group: arms.Group, config: ContrastConfig) -> str:
    return str(group.b[0].run.directory) if config.curve is Curve.none else config.curve.value


def _sweep(groups: Sequence[arms.Group], config: ContrastConfig) -> list[str]:
    return [] if config.curve is Curve.none else [str(each.run.directory) for group in groups for each in group.b]


def _stored(line: _Line, found: Difference) -> ContrastLine:
    return line_of(line.key, _called(line.baseline), found)


def _called(baseline: Baseline | None) -> str | None:
    return None if baseline is None else baseline.value


def _judged(text: str, groups: Sequence[arms.MeasuredGroup], found: Mapping[_Line, Difference]) -> PredictionReport:
    expected = prediction(text)
    of_figure = next((each for line, each in found.items() if line.key == expected.figure), None)
    if of_figure is not None and not expected.of_difference:
        of_figure = arms.mean_of_a(groups, expected.figure, of_figure.material)
    if of_figure is None or of_figure.interval is None:
        return {"prediction": text, "outcome": "not measured", "value": None, "low": None, "high": None}
    low, high = of_figure.interval
    outcome = _outcome(expected, low, high)
    return {"prediction": text, "outcome": outcome, "value": of_figure.effect, "low": low, "high": high}


def _outcome(expected: Prediction, low: float, high: float) -> str:
    """Whether all of the interval is where it was expected, or none of it."""
    ends = [expected.holds(low), expected.holds(high)]
    return "true" if all(ends) else "undecided" if any(ends) else "false"


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    report: ContrastReport = finished.read_json(CONTRAST_FILE)
    lines = report["lines"]
    numbers: dict[str, float | None] = {
        f"{key}{part}": None for key in report["missing"] for part in ("", "_low", "_high", "_p")
    }
    for each in lines:
        key = name_of(each["figure"], each.get("against"))
        numbers |= {key: each["difference"], f"{key}_low": each["low"], f"{key}_high": each["high"]}
        numbers |= {f"{key}_p": each["p_holm"]}
    return StageResult(
        directory=finished.directory,
        title=_title(report),
        document={"command": "contrast", "contrast": report, "figures": numbers},
        header=("", "A", "B", "A - B (95 % interval)", "p (Holm)", "verdict"),
        table=[*(_row(each, report) for each in lines), *_notes(report), ("run", "", "", str(finished.directory))],
    )


def _row(line: ContrastLine, report: ContrastReport) -> tuple[str, ...]:
    known = CONTRASTED[line["figure"]]
    p = "" if line["p_holm"] is None else f"{line['p_holm']:.2g}"
    label = _label(known.named, line.get("against"))
    if line.get("unit") == "seeds" and report["documents"] is not None:
        label += " (over seeds)"
    return (
        label,
        known.text(line["a"]),
        known.text(line["b"]),
        difference_text(line, known),
        p,
        verdict_words(line, known),
    )


def _label(figure: str, against: str | None) -> str:
    return f"{figure}, B: {against}" if against else figure


def _title(report: ContrastReport) -> str:
    seeds = [each["seed"] for each in report["pairs"]]
    if sweep := report.get("sweep"):
        return (
            f"contrast at equal L0: {len(seeds)} dictionaries against a sweep of {len(sweep)}, "
            f"seeds {', '.join(map(str, dict.fromkeys(seeds)))}{_of_documents(report)}"
        )
    how = "in the order given" if None in seeds else f"by seed ({', '.join(map(str, seeds))})"
    pairs = f"{len(seeds)} pair{'s' if len(seeds) > 1 else ''} {how}"
    return f"contrast: {pairs}{_of_documents(report)}"


def _of_documents(report: ContrastReport) -> str:
    return "" if report["documents"] is None else f", {report['documents']:,} documents"


def _notes(report: ContrastReport) -> list[tuple[str, ...]]:
    nowhere = "no L0 in common, or the figure does not exist" if report.get("sweep") else UNDEFINED
    missing = [figure_and_baseline(name) for name in report["missing"]]
    rows: list[tuple[str, ...]] = [
        (_label(CONTRASTED[key].named, against), "", "", "", "", nowhere) for key, against in missing
    ]
    for each in report["predictions"]:
        interval = "" if each["low"] is None else f"{each['value']:.4g} ({each['low']:.4g} to {each['high']:.4g})"
        rows.append((f"predicted {each['prediction']}", "", "", interval, "", each["outcome"]))
    if report["predictions"] and report["evaluated_before"]:
        rows.append(("", "", "", "", "", f"{report['evaluated_before']} evaluations were there before that"))
    return rows
