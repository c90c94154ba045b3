"""What there is to report of a run: the run, its evaluations, and the pages of its features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

from torch import Tensor

from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.artifacts.survey import EVALUATIONS, PROBES, SHEETS, measurements_in
from sae_cli.config.settings import result_settings
from sae_cli.documents import Facts
from sae_cli.metrics.report import EvaluationReport
from sae_cli.runs.dictionary_run import DICTIONARY_COMMANDS, PRUNE, is_trained_here, pruned_from, trained_with
from sae_cli.runs.file_names import DEFAULT, EVAL_FILE, FEATURES_FILE, PROBE_FILE
from sae_cli.runs.stored_figures import old_definitions
from sae_cli.terminal import console


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation of a run: its figures, and the statistics of its features."""

    run: FinishedRun

    @cached_property
    def figures(self) -> EvaluationReport:
        found = self.run.read_json(EVAL_FILE)
        if not isinstance(found, dict):
            raise TypeError(f"{EVAL_FILE} holds a {type(found).__name__}")
        return cast(EvaluationReport, found)

    @cached_property
    def features(self) -> dict[str, Tensor]:
        """In order of name; empty where none were written."""
        found = self.run.read_tensors(FEATURES_FILE) if FEATURES_FILE in self.run.manifest.files else {}
        return dict(sorted(found.items()))

    @property
    def name(self) -> str:
        return self.run.directory.name


@dataclass(frozen=True)
class Subject:
    """A run that is reported.

    Attributes:
        run: it.
        settings: of the training of its dictionary; of a run without one its own.
        evaluations: all that are finished; the one that is reported comes first.
        pages: the pages that are reported, at most one.
        probes: the one of its features as classifiers that is reported, at most one: that with the most concepts.
    """

    run: FinishedRun
    settings: Facts
    evaluations: Sequence[Evaluation] = ()
    pages: Sequence[FinishedRun] = ()
    probes: Sequence[FinishedRun] = ()

    @property
    def command(self) -> str:
        return self.run.manifest.command

    @property
    def has_dictionary(self) -> bool:
        return self.command in DICTIONARY_COMMANDS

    @property
    def is_of_a_model(self) -> bool:
        """Whether there is a model with a text, as far as evaluations say."""
        return self.has_losses or any("documents" in each.figures for each in self.evaluations)

    @property
    def has_losses(self) -> bool:
        """Whether that model predicts the next token."""
        return any("ce_clean" in each.figures for each in self.evaluations)

    def figures_with(self, key: str) -> EvaluationReport | None:
        """The figures of the first evaluation that has something under this key."""
        return next((each.figures for each in self.evaluations if each.figures.get(key)), None)


def subject(directory: Path, like: str = "") -> Subject:
    """A run with what was added to it.

    Args:
        directory: of a finished run.
        like: the name of the evaluation to report, if it has one of that name.
    """
    run = read_run(directory)
    if run.manifest.command not in DICTIONARY_COMMANDS:
        _warn_if_old(run)
        return Subject(run, run.manifest.settings, [Evaluation(run)] if run.manifest.command == "eval" else [])
    evaluations = sorted(map(Evaluation, _finished_in(directory, EVALUATIONS)), key=lambda each: _rank(each, like))
    for each in evaluations:
        _warn_if_old(each.run)
    pages = sorted(_finished_in(directory, SHEETS), key=lambda each: each.directory.name != DEFAULT)
    for each in pages[:1]:
        _warn_if_old(each)
    probes = sorted(_finished_in(directory, PROBES), key=_concepts, reverse=True)
    for each in probes[:1]:
        _warn_if_old(each)
    return Subject(run, _settings(run), evaluations, pages[:1], probes[:1])


def _concepts(probe: FinishedRun) -> int:
    concepts = probe.read_json(PROBE_FILE).get("concepts")
    return len(concepts) if isinstance(concepts, list) else 0


def _warn_if_old(run: FinishedRun) -> None:
    if old := old_definitions(run):
        console.warn(f"{old}; sae {run.manifest.command} makes it again")


def parent_of(child: Subject) -> Subject | None:
    """What a pruned dictionary was made of, if that is still there as it was."""
    parent = pruned_from(child.run)
    if parent is None:
        return None
    return subject(parent.directory, child.evaluations[0].name if child.evaluations else "")


def common_evaluation(directories: Sequence[Path]) -> str:
    """The name of the evaluation that most of these runs have, so that their figures are of one text."""
    names = Counter(each.directory.name for one in directories for each in measurements_in(one, EVALUATIONS))
    return min(names, key=lambda name: (-names[name], name != DEFAULT, name), default="")


def _rank(each: Evaluation, like: str) -> tuple[bool, bool, float, str]:
    return each.name != like, each.name != DEFAULT, -(each.figures.get("tokens") or 0), each.name


def _finished_in(directory: Path, kind: str) -> list[FinishedRun]:
    """The finished runs of a kind inside a run, in order of name."""
    found = measurements_in(directory, kind)
    return [FinishedRun(each.directory, each.manifest) for each in found if each.manifest and each.status == "complete"]


def _settings(run: FinishedRun) -> Facts:
    if run.manifest.command != PRUNE or not is_trained_here(run):
        return run.manifest.settings
    return result_settings(trained_with(run))
