"""`sae contrast`: figures of dictionaries of one recipe against those of another, paired by seed and by row of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.contrast import ContrastConfig
from sae_cli.config.prediction import Prediction, prediction
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation import evaluate
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION
from sae_cli.metrics.catalogue import contrasted
from sae_cli.metrics.contrast import Difference, Verdict, corrected, difference, mean_of
from sae_cli.metrics.figure import Better, Figure
from sae_cli.metrics.language_loss import exists, figures_of
from sae_cli.metrics.report import ContrastLine, ContrastReport, PairedReport, PredictionReport
from sae_cli.metrics.row_sums import LEAST_DOCUMENTS, RowSums
from sae_cli.runs.definitions import UNDEFINED
from sae_cli.runs.dictionary_run import DictionaryRun, is_trained_here, read_dictionary_run, trained_with
from sae_cli.runs.file_names import CONTRAST_FILE
from sae_cli.runs.row_files import read_rows
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal.plus_minus import plus_minus

CONTRASTED = contrasted()
"""The figures that may be contrasted."""


class _Pair(NamedTuple):
    """Two dictionaries that are held against each other, and the seed that both are of where that is known."""

    a: DictionaryRun
    b: DictionaryRun
    seed: int | None


def run(config: ContrastConfig, directory: Path) -> StageResult:
    """Hold the dictionaries `config.a` against those of `config.against`."""
    return _result(once(Claim(config, directory, doing="contrasting"), _contrast))


def _contrast(claim: Claim[ContrastConfig]) -> FinishedRun:
    config = claim.config
    _check_figures(config.figures)
    pairs = _paired([_source(each, "a") for each in config.a], [_source(each, "against") for each in config.against])
    sources = [each for pair in pairs for each in (pair.a, pair.b)]
    known = sum(evaluate.is_evaluated(each, _settings(each, config)) for each in sources)
    # What is predicted is in the manifest from here on; what follows is measured after it.
    with claim.open(parents=[each.run for each in sources]) as claimed:
        evaluations = [(_evaluation(pair.a, config), _evaluation(pair.b, config)) for pair in pairs]
        rows = [(read_rows(a), read_rows(b)) for a, b in evaluations]
        _check_rows(pairs, rows, [evaluation for both in evaluations for evaluation in both])
        found = _differences(rows, config)
        report: ContrastReport = {
            "pairs": [_about(each) for each in pairs],
            "documents": rows[0][0].documents,
            "lines": [_line(key, each) for key, each in found.items()],
            "missing": [each for each in config.figures if each not in found],
            "predictions": [_judged(text, rows, found) for text in config.predict],
            "evaluated_before": known,
            "metrics_version": VERSION,
        }
        claimed.write_json(CONTRAST_FILE, report)
        return claimed.finish(seconds=claim.seconds())


def _source(path: str, key: str) -> DictionaryRun:
    try:
        source = read_dictionary_run(path)
    except RequestError as error:
        raise RequestError(f"{key}={error}") from error
    if truth := source.card.truth:
        raise RequestError(f"{key}={path}: expected a dictionary of a language model, found one of {truth.called}")
    return source


def _check_figures(asked: Sequence[str]) -> None:
    for each in asked:
        if each not in CONTRASTED:
            close = get_close_matches(each, CONTRASTED, n=1)
            meant = f"did you mean {close[0]}?" if close else f"expected some of {', '.join(CONTRASTED)}"
            raise RequestError(f"figures={each}: no figure with a standard error is called that; {meant}")


def _paired(a: Sequence[DictionaryRun], b: Sequence[DictionaryRun]) -> list[_Pair]:
    """By seeds where both have the same ones, each once; else in the order given."""
    seeds_a, seeds_b = ([_seed(each) for each in runs] for runs in (a, b))
    if None not in seeds_a and len(set(seeds_a)) == len(a) and set(seeds_a) == set(seeds_b):
        by_seed = dict(zip(seeds_b, b, strict=True))
        return [_Pair(each, by_seed[seed], seed) for each, seed in zip(a, seeds_a, strict=True)]
    return [_Pair(one, other, None) for one, other in zip(a, b, strict=True)]


def _seed(source: DictionaryRun) -> int | None:
    origin = source.origin()
    return trained_with(origin).seed if is_trained_here(origin) else None


def _settings(source: DictionaryRun, config: ContrastConfig) -> evaluate.EvalConfig:
    return evaluate.settings_for(source.run.directory, config)


def _evaluation(source: DictionaryRun, config: ContrastConfig) -> FinishedRun:
    settings = _settings(source, config)
    return evaluate.evaluation(source, settings, evaluate.default_name(settings))


def _check_rows(
    pairs: Sequence[_Pair], rows: Sequence[tuple[RowSums, RowSums]], evaluations: Sequence[FinishedRun]
) -> None:
    """See that all are of the same rows, and of the same tokens in them.

    Raises:
        JobError: they are not.
    """
    sources = [source for pair in pairs for source in (pair.a, pair.b)]
    sums = [each for both in rows for each in both]
    tokens = [each.fact("tokens_sha256", str) for each in evaluations]
    for source, each, read in zip(sources, sums, tokens, strict=True):
        if read != tokens[0] or not each.is_of_same_rows(sums[0]):
            raise JobError(
                f"{source.run.directory}: was measured on other rows of text than {sources[0].run.directory}; "
                "contrast dictionaries of one text, tokenizer and context"
            )


def _differences(rows: Sequence[tuple[RowSums, RowSums]], config: ContrastConfig) -> dict[str, Difference]:
    """By figure; without those that do not exist for one of the dictionaries."""
    found: dict[str, Difference] = {}
    for key in config.figures:
        of_all = [each for pair in rows for each in pair]
        if any(key not in figures_of(each.columns) or not exists(key, each) for each in of_all):
            continue
        figure = figures_of(of_all[0].columns)[key]
        if each := difference(rows, figure, config.material or CONTRASTED[key].material):
            found[key] = each
    return dict(zip(found, corrected(list(found.values())), strict=True))


def _about(pair: _Pair) -> PairedReport:
    return {"a": str(pair.a.run.directory), "b": str(pair.b.run.directory), "seed": pair.seed}


def _line(key: str, found: Difference) -> ContrastLine:
    low, high = found.interval or (None, None)
    return {
        "figure": key,
        "verdict": found.verdict.value,
        "within_material": found.is_within,
        "a": found.a,
        "b": found.b,
        "difference": found.effect,
        "se": found.se,
        "low": low,
        "high": high,
        "p": found.p,
        "p_holm": None if found.p is None else min(1.0, found.p * found.holm[0]),
        "material": found.material,
        "seed_se": found.seed_se,
        "document_se": found.document_se,
        "seeds_needed": found.seeds_needed,
        "power": found.power(found.material),
    }


def _judged(text: str, rows: Sequence[tuple[RowSums, RowSums]], found: Mapping[str, Difference]) -> PredictionReport:
    expected = prediction(text)
    of_figure = found.get(expected.figure)
    if of_figure is not None and not expected.of_difference:
        figure = figures_of(rows[0][0].columns)[expected.figure]
        of_figure = mean_of([a for a, _ in rows], figure, of_figure.material)
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
        key = each["figure"]
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
    digits = max(known.decimals, 2)
    shown = plus_minus(line["difference"], line["se"], digits, sign="+")
    if line["low"] is not None and line["high"] is not None:
        digits = len(shown.partition(" ")[0].partition(".")[2])
        shown = f"{shown} ({line['low']:+.{digits}f} to {line['high']:+.{digits}f})"
    p = "" if line["p_holm"] is None else f"{line['p_holm']:.2g}"
    return (known.named, known.text(line["a"]), known.text(line["b"]), shown, p, _words(line, known, report))


def _words(line: ContrastLine, known: Figure, report: ContrastReport) -> str:
    """The verdict as people read it."""
    material = f"{line['material']:g}"
    match Verdict(line["verdict"]):
        case Verdict.A_HIGHER | Verdict.B_HIGHER as verdict:
            higher, lower = ("A", "B") if verdict is Verdict.A_HIGHER else ("B", "A")
            said = f"{higher} is higher"
            if known.better in (Better.HIGHER, Better.LOWER):
                said = f"{higher if known.better is Better.HIGHER else lower} is better"
            return f"{said}, by less than {material}" if line["within_material"] else said
        case Verdict.SAME:
            return f"the same within {material}"
        case Verdict.ONE_PAIR:
            return "of these two only: one seed"
        case Verdict.NOT_MEASURED:
            return f"cannot tell: {report['documents']} documents are too few (at least {LEAST_DOCUMENTS})"
        case Verdict.UNDECIDED:
            needed = line["seeds_needed"]
            return f"cannot tell: would need {f'about {needed:,} seeds' if needed else 'more text'}"


def _title(report: ContrastReport) -> str:
    seeds = [each["seed"] for each in report["pairs"]]
    how = "in the order given" if None in seeds else f"by seed ({', '.join(map(str, seeds))})"
    pairs = f"{len(seeds)} pair{'s' if len(seeds) > 1 else ''} {how}"
    return f"contrast: {pairs}, {report['documents']:,} documents"


def _notes(report: ContrastReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [(CONTRASTED[key].named, "", "", "", "", UNDEFINED) for key in report["missing"]]
    for each in report["predictions"]:
        interval = "" if each["low"] is None else f"{each['value']:.4g} ({each['low']:.4g} to {each['high']:.4g})"
        rows.append((f"predicted {each['prediction']}", "", "", interval, "", each["outcome"]))
    if report["predictions"] and report["evaluated_before"]:
        n, of = report["evaluated_before"], 2 * len(report["pairs"])
        rows.append(("", "", "", "", "", f"{n} of {of} evaluations were there before that"))
    return rows
