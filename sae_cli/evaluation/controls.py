"""Other dictionaries beside the one that is evaluated, on the same rows of text: of a network with random weights, with
rows that were never trained, of another recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.eval import NOTHING_BESIDE, EvalConfig
from sae_cli.documents import Document
from sae_cli.errors import JobError, RequestError
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.contrast import difference
from sae_cli.metrics.figure import Of
from sae_cli.metrics.language_loss import exists, figures_of, recovered_above
from sae_cli.metrics.row_sums import RowSums
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import EVAL_FILE
from sae_cli.runs.row_files import read_rows

COPIED = ("l0", "bits", "fvu", "loss_recovered", "loss_recovered_se", "ce_increase", "ce_increase_se",
          "token_entropy_median", "mcc", "f1")  # fmt: skip
"""Figures of a control."""
DIFFERENCES = ("fvu", "loss_recovered", "ce_increase", "bits")
"""What the dictionary has less the control, each with its interval over documents."""

Evaluate = Callable[[DictionaryRun, EvalConfig], FinishedRun]


def read_controls(source: DictionaryRun, config: EvalConfig) -> list[DictionaryRun]:
    """The dictionaries that are asked for.

    Raises:
        RequestError: one is none, is the dictionary itself, or is of another kind of activations.
    """
    found = []
    for path in config.control or []:
        try:
            each = read_dictionary_run(path)
        except RequestError as error:
            raise RequestError(f"control={error}; a control is a dictionary: train one on the network") from error
        if each.run.directory.resolve() == source.run.directory.resolve():
            raise RequestError(f"control={path}: is the dictionary that is evaluated; give another one")
        if bool(each.card.truth) is not bool(source.card.truth):
            raise RequestError(
                f"control={path}: expected both of a language model or both of a known truth; give another"
            )
        found.append(each)
    return found


def settings_of(control: DictionaryRun, source: DictionaryRun, config: EvalConfig) -> EvalConfig:
    """The evaluation of a control on the text of the dictionary's own."""
    data = source.data(config.data)
    own = config.data is None and control.data(None) == data
    alone = {**NOTHING_BESIDE, "run": str(control.run.directory), "data": None if own else data, "overwrite": False}
    return replace(config, **alone)


Controls = Sequence[tuple[str, DictionaryRun, FinishedRun]]
"""Paths as they were given, dictionaries and their evaluations."""


def beside(rows: RowSums | None, controls: Controls, tokens: object) -> dict[str, Document]:
    """The figures of each control by the path it was given by, and what the dictionary has more.

    Args:
        rows: of the dictionary; None with a known truth.
        controls: paths, dictionaries and their evaluations.
        tokens: hash of the tokens that the dictionary was measured on.

    Raises:
        JobError: one was measured on other rows of text.
    """
    found = {}
    for path, control, evaluation in controls:
        report: Document = evaluation.read_json(EVAL_FILE)
        found[path] = {key: report[key] for key in COPIED if key in report}
        if rows is None:
            continue
        theirs = read_rows(evaluation)
        if report.get("tokens_sha256") != tokens or not rows.is_of_same_rows(theirs):
            raise JobError(
                f"control={control.run.directory}: was measured on other rows of text; a control has the tokenizer "
                "and the context of the dictionary's text"
            )
        found[path] |= _differences(rows, theirs)
        losses = all("ce_clean" in each.columns for each in (rows, theirs))
        if losses and torch.equal(rows.column("ce_clean"), theirs.column("ce_clean")):  # one network
            found[path] |= recovered_above(rows, theirs)
    return found


def _differences(rows: RowSums, theirs: RowSums) -> Document:
    known, found = figures(Of.EVALUATION), {}
    for key in DIFFERENCES:
        of_both = [figures_of(each.columns).get(key) for each in (rows, theirs)]
        if None in of_both or not all(exists(key, each) for each in (rows, theirs)):
            continue
        figure = of_both[0]
        assert figure is not None
        if measured := difference([(rows, theirs)], figure, known[key].material):
            low, high = measured.interval or (None, None)
            found |= {f"{key}_more": measured.effect, f"{key}_more_low": low, f"{key}_more_high": high}
    return found
