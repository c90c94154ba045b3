"""Evaluations of one dictionary: every metric, made or found; of one that was pruned, beside those of what it was made
of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.files import damaged, take_file, write_json
from sae_cli.artifacts.lock import owner_of, wait_until_free
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.artifacts.survey import EVALUATIONS
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.commands.contrast import ContrastConfig
from sae_cli.config.commands.eval import NOTHING_BESIDE, EvalConfig
from sae_cli.config.commands.import_ import ImportConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.names import measurement_name
from sae_cli.config.settings import flatten
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document
from sae_cli.errors import BusyError, RequestError
from sae_cli.evaluation.controls import Controls, read_controls, settings_of
from sae_cli.evaluation.controls import beside as beside_controls
from sae_cli.evaluation.encode import FEATURES_AT_ONCE
from sae_cli.evaluation.evaluate_table import BEFORE, result
from sae_cli.evaluation.held_out import LOGITS_MEMORY
from sae_cli.evaluation.measure import Measured, Measurement
from sae_cli.evaluation.rare_features import rare_report
from sae_cli.evaluation.read_in_step import ReadInStep
from sae_cli.evaluation.references import References
from sae_cli.evaluation.subject import ModelSubject, Subject, SyntheticSubject, make_subject
from sae_cli.jobs.estimate import Estimate, expect_memory
from sae_cli.jobs.once import Claim, ClaimInside, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.side_by_side import Group, Job, Outcome, Step, Work, run_asked, run_made, run_one
from sae_cli.metrics import VERSION
from sae_cli.metrics.report import BeforeReport
from sae_cli.runs.definitions import VERSION_KEY
from sae_cli.runs.dictionary_run import PRUNE, DictionaryRun, pruned_from, read_dictionary_run
from sae_cli.runs.file_names import ABLATION_FILE, DEFAULT, EVAL_FILE, FEATURES_FILE
from sae_cli.runs.outside import can_keep, folder_of, root_of
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.row_files import write_rows
from sae_cli.terminal import console
from sae_cli.text.provenance import TextRecord

_FEATURES = {"count": "I64 F", "frequency": "F32|F64 F"}
_OF_BOTH_ENDS = "de_projection"
"""Of an autoencoder."""

_FACTS = ("tokens_sha256",)
_OF_TEXT = (
    *(f"eval.{name}" for name in ("exclude", "sample", "rows_per_document", "within", "minutes")),
    "features.rows_per_document",
)


def run(config: EvalConfig, directory: Path, evaluation_name: str) -> StageResult:
    """Evaluate the dictionary in `directory`; the results go into its folder `eval/<evaluation_name>`."""
    return run_one(Request.of(config, directory, evaluation_name), EvaluationGroup())


def run_together(requests: Sequence[tuple[EvalConfig, Path, str]]) -> list[Outcome]:
    """Evaluate several; for those of one place and text the model's own work is done once."""
    return run_asked(requests, lambda each: Request.of(*each), Request.shared, EvaluationGroup)


def settings_for(directory: Path, like: PruneConfig | CompareConfig | ContrastConfig | ImportConfig) -> EvalConfig:
    """The evaluation of a run that another command asks for, with that command's own settings."""
    return EvalConfig(
        run=str(directory),
        runs_dir=like.runs_dir,
        device=like.device,
        verify=like.verify,
        model_rows=like.model_rows,
        eval=like.eval,
        features=like.features,
    )


def default_name(config: EvalConfig) -> str:
    """The name of an evaluation of these settings."""
    return measurement_name(config, flatten(EvalConfig(run=config.run, eval=type(config.eval)())))


def evaluation(source: DictionaryRun, config: EvalConfig, name: str, said: bool = False) -> FinishedRun:
    """The finished evaluation of a dictionary that another command needs, made if the run has none; if another process
    makes it, it is waited for.

    It is made in `config.out`; without that in the run, or below `config.runs_dir` where the run cannot be written.
    What is unlike the training of the dictionary is said, unless that was `said`.
    """
    while True:
        placed = _placed(source, config, name)
        try:
            return _evaluated(Request.of_source(source, placed, name, said))
        except BusyError:
            if owner := owner_of(folder := folder_of(source.run, placed.out, EVALUATIONS, name)):
                console.log(f"waiting for process {owner.pid} on {owner.host}, which makes {folder}")
            wait_until_free(folder)


def is_evaluated(source: DictionaryRun, config: EvalConfig) -> bool:
    """Whether there is the evaluation of these settings, in the run or where it is kept if that cannot be written."""
    for out in (None, str(Path(config.runs_dir, EVALUATIONS))):
        with suppress(BusyError):
            if ClaimInside(config, source.run, out, default_name(config)).is_finished():
                return True
    return False


def _placed(source: DictionaryRun, config: EvalConfig, name: str) -> EvalConfig:
    """With `out` as it has to be: none where the run has this evaluation, and some where it cannot be written."""
    own = ClaimInside(replace(config, out=None, overwrite=False), source.run, None, name)
    with suppress(BusyError):  # it is being made
        if own.is_finished():
            return replace(config, out=None)
    if config.out is not None or can_keep(source.run, own.directory):
        return config
    out = str(Path(config.runs_dir, EVALUATIONS))
    console.log(f"{source.run.directory}: cannot be written; its evaluation is kept in {out}")
    return replace(config, out=out)


class Request(NamedTuple):
    """An evaluation that is asked for, and the dictionary that it is of."""

    claim: ClaimInside[EvalConfig]
    source: DictionaryRun
    name: str
    said: bool

    @classmethod
    def of(cls, config: EvalConfig, directory: Path, name: str) -> Request:
        """Of the dictionary in `directory`, into its folder `eval/<name>`."""
        return cls.of_source(read_dictionary_run(directory), config, name)

    @classmethod
    def of_source(cls, source: DictionaryRun, config: EvalConfig, name: str, said: bool = False) -> Request:
        """Of a dictionary that has been read; what is unlike its training was `said`, or is yet to be."""
        return cls(ClaimInside(config, source.run, config.out, name), source, name, said)

    def shared(self) -> str:
        """The same for dictionaries of one place that are measured on the same text."""
        config, card = self.claim.config, self.source.card
        rows = (config.data or card.data, config.eval, config.features)
        return repr((card.model, card.wiring, rows, config.model_rows, config.device))


class EvaluationGroup(Group[Request]):
    """Evaluations that share model, place and text."""

    def __init__(self) -> None:
        self._read: ReadInStep | None = None

    def make(self, request: Request) -> Evaluation | StageResult:
        made = self.find_or_make(request)
        return made if isinstance(made, Evaluation) else result(request.source, made)

    def find_or_make(self, request: Request) -> Evaluation | FinishedRun:
        """The evaluation where there is one, else the job that makes it."""
        claim, source, _, said = request
        found = partial(check_served, source=source, data=claim.config.data, said=said)
        return once(claim, partial(self._begin, request=request), found)

    def _begin(self, claim: Claim[EvalConfig], request: Request) -> Evaluation:
        config, source = claim.config, request.source
        if not source.card.truth:
            check_model(source)
        else:
            _refuse_of_text(config, source.card.truth.called)
        text = measured_text(source, config.data, request.said)
        dictionary = load_dictionary(source.run, config.verify).to(build.device(config.device))
        first, same_rows = self._read is None, config
        if config.eval.minutes is not None:  # else the model comes after evaluations that have it in memory too
            self._read = self._read or _to_read(source, config, dictionary)
            same_rows = replace(config, eval=self._read.evaluation, features=self._read.features)
        before, controls = _before(source.run, same_rows, request.name), _controls(source, same_rows)
        read = self._read = self._read or _to_read(source, config, dictionary)
        subject = read.subject
        if config.references and isinstance(subject, ModelSubject):
            subject.model.check_predicts("references")
        references = _references(source, subject, config)
        measurement = Measurement(read, config.baselines, config.baseline_tokens, references)
        memory = 4 * FEATURES_AT_ONCE + sum(each.nbytes for each in dictionary.tensors().values())
        if first and isinstance(subject, ModelSubject):
            memory += sum(p.nbytes for p in subject.model.hf.parameters()) + LOGITS_MEMORY
        return Evaluation(request, measurement, dictionary, controls, before, text, memory)


def _to_read(source: DictionaryRun, config: EvalConfig, dictionary: Dictionary) -> ReadInStep:
    """The model and the text of an evaluation, of which there may be time for a part only."""
    subject = make_subject(source, config.data, config.model_rows, build.device(config.device))
    subject.check(dictionary)
    read = ReadInStep(subject, config.eval, config.features)
    if config.eval.minutes is None:
        return read
    return read.within(config.eval.minutes / (1 + len(config.baselines)), dictionary)


class Evaluation(Job):
    """One dictionary: from the first rows of text to its figures.

    Args:
        request: what is asked for.
        measurement: of the dictionary.
        dictionary: on its device.
        controls: evaluations that it is shown beside.
        before: figures of what it was made of.
        text: that is read.
        memory: bytes that it takes, beside those before it.

    Attributes:
        finished: the evaluation, once it is complete.
    """

    title, resumable = "eval", False
    finished: FinishedRun

    def __init__(
        self,
        request: Request,
        measurement: Measurement,
        dictionary: Dictionary,
        controls: Controls,
        before: BeforeReport,
        text: TextRecord | None,
        memory: int,
    ) -> None:
        self._memory = memory
        self._request, self._measurement, self._dictionary = request, measurement, dictionary
        self._controls, self._before, self._text = controls, before, text
        config = request.claim.config
        self._ablation = measurement.ablation(dictionary, config.ablate) if config.ablate else None
        self.directory = request.claim.directory

    @contextmanager
    def open(self) -> Iterator[Work]:
        """Claim the run, measure, and leave what is found in it."""
        claim, source, *_ = self._request
        needs = Estimate(memory=self._memory, work=self._measurement.seconds(self._dictionary))
        expect_memory(needs.memory)
        with claim.open(parents=[source.run, *(control.run for _, control, _ in self._controls)]) as claimed:
            yield Work(steps=self._steps(claimed), tokens=self._measurement.tokens, needs=needs)

    def _steps(self, claimed: Run) -> Iterator[Step]:
        found = yield from self._measurement.of(self._dictionary)
        self.finished = self._finish(claimed, found)

    def _finish(self, claimed: Run, found: Measured) -> FinishedRun:
        claim, source, name, _ = self._request
        config, (figures, tensors, rows) = claim.config, found
        report: Document = {**figures, **self._before, VERSION_KEY: VERSION}
        report["rare"] = rare_report(source.run, self._dictionary, tensors, config.features.rare_below)
        claimed.write_tensors(FEATURES_FILE, tensors)
        if rows:
            write_rows(claimed, rows)
        if self._controls:
            tokens = report.get("tokens_sha256")
            report["controls"] = beside_controls(rows.get("dictionary"), self._controls, tokens)
        if self._ablation:
            report["ablation"], effects = self._ablation.results()
            claimed.write_tensors(ABLATION_FILE, effects)
        claimed.write_json(EVAL_FILE, report)
        if name == DEFAULT:
            # In the evaluation's own folder first: what is left there by a process that is killed, the next one clears.
            write_json(copy := claim.directory / f".{EVAL_FILE}", report)
            take_file(copy, root_of(source.run, config.out) / EVAL_FILE)
        facts = text_facts(self._text) | model_facts(source) | {key: report[key] for key in _FACTS if key in report}
        return claimed.finish(**facts, seconds=claim.seconds())

    def result(self) -> StageResult:
        return result(self._request.source, self.finished)


def _evaluated(request: Request) -> FinishedRun:
    made = EvaluationGroup().find_or_make(request)
    if isinstance(made, Evaluation):
        run_made(made)
        return made.finished
    return made


def _refuse_of_text(config: EvalConfig, called: str) -> None:
    """Refuse what chooses among tokens and documents, of which a known truth has none."""
    asked, usual = flatten(config), flatten(EvalConfig(run=config.run))
    if idle := [key for key in _OF_TEXT if asked.get(key, usual[key]) != usual[key]]:
        raise RequestError(f"{idle[0]} has no effect: {called} has no tokens and no documents; leave it out")


def read_features(finished: FinishedRun, n_features: int) -> dict[str, Tensor]:
    """The statistics of the features of a dictionary.

    Raises:
        JobError: they are damaged, or not of a dictionary of so many features.
    """
    held = finished.read_header(FEATURES_FILE).tensors
    layout = _FEATURES | ({_OF_BOTH_ENDS: _FEATURES["frequency"]} if _OF_BOTH_ENDS in held else {})
    sizes = finished.expect(FEATURES_FILE, layout, others=True)
    if sizes["F"] != n_features:
        raise damaged(finished.directory / FEATURES_FILE, f"{n_features} features", f"{sizes['F']}")
    return finished.read_tensors(FEATURES_FILE)


def _references(source: DictionaryRun, subject: Subject, config: EvalConfig) -> References | None:
    """The references that are asked for, which can be had."""
    if not config.references:
        return None
    if isinstance(subject, SyntheticSubject):
        raise RequestError(f"references are language models, and {subject.called} has none; leave references out")
    references = References.of(source.model(), config.references, config.model_rows)
    references.check(subject.data)
    return references


def _controls(source: DictionaryRun, config: EvalConfig) -> Controls:
    """The controls that are asked for, each with its evaluation on the same text, which is made if there is none."""
    found = []
    for path, control in zip(config.control or [], read_controls(source, config), strict=True):
        console.log(f"control: {path}")
        like = settings_of(control, source, config)
        found.append((path, control, evaluation(control, like, default_name(like), said=True)))
    return found


def _before(run: FinishedRun, config: EvalConfig, name: str) -> BeforeReport:
    """Of a pruned dictionary: the same evaluation of what it was made of."""
    parent = pruned_from(run)
    if parent is None:
        if run.manifest.command == PRUNE:
            made_of = run.manifest.parents[0].path
            console.warn(f"{made_of}: {run.directory} was made of it, and it is gone or has changed: no figures before")
        return {}
    same = replace(config, run=str(parent.directory), **NOTHING_BESIDE, overwrite=False)
    before = evaluation(read_dictionary_run(parent.directory), same, default_name(same), said=True)
    report = before.read_json(EVAL_FILE)
    return {"before": {key: report[key] for key in BEFORE if key in report}, "killed": run.fact("killed", int)}
