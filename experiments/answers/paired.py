"""Evaluations of the same rows of text, by seed: what the answers pair where `sae contrast` has no word for it."""

import json
from pathlib import Path

from reading import KNOWN, by_seed, settings

from sae_cli.artifacts import stored_run
from sae_cli.metrics.contrast import difference_of_totals
from sae_cli.metrics.language_loss import figures_of
from sae_cli.runs import row_files


def seeds(found):
    """Those of evaluations (run, report)."""
    return sorted({by_seed(run) for run, _ in found})


def of_seed(found, seed):
    """The sums of every row of text, of the dictionaries of one seed."""
    return [rows_of(run, report) for run, report in found if by_seed(run) == seed]


def joint(found):
    """(seed, sums of all dictionaries at once); of one layer those of its own evaluation."""
    for run, report in found:
        parents = stored_run.read_run(run).manifest.parents
        if settings(run).get("layer") is not None or not parents:
            yield by_seed(run), rows_of(run, report)
        else:
            yield by_seed(parents[0].path), row_files.read_rows(stored_run.read_run(run), "dictionaries")


def rows_of(run, report, of="dictionary"):
    """The sums of the evaluation of a run on the same text as these figures: of the dictionary, or of a baseline."""
    return row_files.read_rows(evaluation_of(run, report), of)


def evaluation_of(run, report):
    """The evaluation of a run that has these figures."""
    for folder in sorted(Path(run, "eval").iterdir()):
        evaluation = folder / "eval.json"
        if evaluation.is_file() and _is_same(evaluation, report):
            return stored_run.read_run(folder)
    raise SystemExit(f"{run}: has no evaluation of the tokens {report['tokens_sha256']}")


def _is_same(evaluation, report):
    """Whether an evaluation is of the same rows of text, with the same baselines."""
    found = json.loads(evaluation.read_text())
    same_baselines = set(found.get("baselines", {})) == set(report.get("baselines", {}))
    return found["tokens_sha256"] == report["tokens_sha256"] and same_baselines


def added_up(pairs, key="ce_increase"):
    """The difference of a figure summed over the dictionaries on either side; one pair a seed; None without any."""
    if not pairs or not pairs[0][0]:
        return None
    figure = figures_of(pairs[0][0][0].columns)[key]
    return difference_of_totals(pairs, figure, KNOWN[key].material)
