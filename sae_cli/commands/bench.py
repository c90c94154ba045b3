"""`sae bench`: a dictionary by the protocol and the formulas of a benchmark, ours beside them; several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.bench import BenchConfig
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document, Facts
from sae_cli.errors import RequestError
from sae_cli.evaluation.encode import FEATURES_AT_ONCE
from sae_cli.evaluation.held_out import LOGITS_MEMORY
from sae_cli.evaluation.loss_tables import held_out
from sae_cli.evaluation.saebench import OURS, BenchText, CoreBenchmark
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.jobs.estimate import Estimate, expect_memory
from sae_cli.jobs.once import Claim, ClaimInside, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.side_by_side import Group, Job, Outcome, Step, Work, run_asked, run_one
from sae_cli.metrics import VERSION
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Figure, Of
from sae_cli.metrics.report import Figures
from sae_cli.runs.definitions import VERSION_KEY
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import BENCH_FILE, FEATURES_FILE
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal.plus_minus import plus_minus

_SHORT = 0.001
"""Below this four digits after the point say too little."""


class _Request(NamedTuple):
    """A benchmark that is asked for, and the dictionary that it is of."""

    claim: ClaimInside[BenchConfig]
    source: DictionaryRun

    @classmethod
    def of(cls, config: BenchConfig, directory: Path, name: str) -> _Request:
        source = read_dictionary_run(directory)
        return cls(ClaimInside(config, source.run, config.out, name), source)

    def shared(self) -> str:
        """The same for dictionaries of one place that are measured on the same rows."""
        config, card = self.claim.config, self.source.card
        rows = (config.data or card.data, config.eval, config.context, config.batch_rows)
        return repr((card.model, card.wiring, rows, config.model_rows, config.device))


def run(config: BenchConfig, directory: Path, name: str) -> StageResult:
    """Measure the dictionary in `directory`; the figures go into its folder `bench/<name>`."""
    return run_one(_Request.of(config, directory, name), BenchGroup())


def run_together(requests: Sequence[tuple[BenchConfig, Path, str]]) -> list[Outcome]:
    """Measure several; for those of one place and text the model's own work is done once."""
    return run_asked(requests, lambda each: _Request.of(*each), _Request.shared, BenchGroup)


class BenchGroup(Group[_Request]):
    """Benchmarks that share model, place and text."""

    def __init__(self) -> None:
        self._text: BenchText | None = None

    def make(self, request: _Request) -> Job | StageResult:
        claim, source = request
        config = claim.config
        found = partial(check_served, source=source, data=_data(source, config) if config.data else None)
        made = once(claim, partial(self._begin, source=source), found)
        return made if isinstance(made, Job) else _result(source, made)

    def _begin(self, claim: Claim[BenchConfig], source: DictionaryRun) -> Job:
        config, data = claim.config, _data(source, claim.config)
        check_model(source)
        source.site()
        text = measured_text(source, data if config.data else None)
        device = build.device(config.device)
        dictionary = load_dictionary(source.run, config.verify).to(device)
        if self._text is None:
            subject = make_subject(source, data, config.model_rows, device)
            assert isinstance(subject, ModelSubject)
            if config.context > (most := subject.model.max_context):
                raise RequestError(
                    f"context={config.context}: expected 2 to {most} for this model; give context={most}"
                )
            self._text = BenchText(subject, config.eval, config.batch_rows)
        return Bench(claim, source, CoreBenchmark(self._text, dictionary), self._text, text_facts(text))


class Bench(Job):
    """One dictionary: from the first batch to its figures."""

    title, resumable = "bench", False

    def __init__(
        self,
        claim: Claim[BenchConfig],
        source: DictionaryRun,
        benchmark: CoreBenchmark,
        text: BenchText,
        text_read: Facts,
    ) -> None:
        self._claim, self._source, self._benchmark, self._text = claim, source, benchmark, text
        self._text_read, self.directory = text_read, claim.directory

    @contextmanager
    def open(self) -> Iterator[Work]:
        """Claim the run, measure, and leave the figures in it."""
        model = self._text.subject.model.hf
        needs = Estimate(memory=sum(p.nbytes for p in model.parameters()) + LOGITS_MEMORY + 4 * FEATURES_AT_ONCE)
        expect_memory(needs.memory)
        with self._claim.open(parents=[self._source.run]) as claimed:
            steps = (Step(tokens=positions) for positions in self._benchmark.batches())
            yield Work(steps=steps, tokens=self._text.text.positions_asked, needs=needs)
            self._finished = self._finish(claimed)

    def _finish(self, claimed: Run) -> FinishedRun:
        config, found = self._claim.config, self._benchmark.results()
        report: Document = {
            "suite": config.suite.value,
            "context": config.context,
            "batch_rows": config.batch_rows,
            **found.text,
            "figures": found.figures,
            "ours": found.ours,
            VERSION_KEY: VERSION,
        }
        claimed.write_tensors(FEATURES_FILE, found.tensors)
        claimed.write_json(BENCH_FILE, report)
        facts = {**self._text_read, **model_facts(self._source), "tokens_sha256": found.text["tokens_sha256"]}
        return claimed.finish(**facts, seconds=self._claim.seconds())

    def result(self) -> StageResult:
        return _result(self._source, self._finished)


def _data(source: DictionaryRun, config: BenchConfig) -> DataConfig:
    """The text in rows of the benchmark's length.

    Raises:
        RequestError: there is none.
    """
    if isinstance(data := source.data(config.data), TruthData):
        raise RequestError(
            f"{source.run.directory}: a benchmark needs a text and a language model, and {data.called} has neither; "
            "sae eval measures against its truth"
        )
    return replace(data, context=config.context)


@shows_stored
def _result(source: DictionaryRun, finished: FinishedRun) -> StageResult:
    report = finished.read_json(BENCH_FILE)
    found: Figures = report["figures"]
    ours: Figures = report["ours"]
    of_rows = f"{report['batches']:,} batches of {report['batch_rows']:,} rows of {report['context']:,} tokens"
    rows = [
        *((each.named, _shown(found, each), _beside(ours, each)) for each in figures(Of.BENCH).values()),
        ("held-out tokens", held_out(report), ""),
        ("text", of_rows, ""),
        ("positions", report["positions"], ""),
        ("run", str(source.run.directory), ""),
        ("benchmark", str(finished.directory), ""),
    ]
    about: Facts = {key: value for key, value in report.items() if key not in ("figures", "ours")}
    return StageResult(
        directory=source.run.directory,
        title=f"bench, {report['suite']}",
        document={
            "run": str(source.run.directory),
            "command": "bench",
            "benchmark": str(finished.directory),
            "bench": {**about, "ours": ours},
            "figures": found,
        },
        table=rows,
        header=("", "SAEBench", "ours, where defined otherwise"),
    )


def _shown(found: Figures, each: Figure) -> str:
    if (value := found[each.key]) is None:
        return "-"
    error = found.get(f"{each.key}_se")
    return f"{value:.4g}" if error is None and abs(value) < _SHORT else plus_minus(value, error)


def _beside(ours: Figures, each: Figure) -> str:
    if (key := OURS.get(each.key)) is None:
        return ""
    value = ours.get(key)
    return "-" if value is None else plus_minus(value, ours.get(f"{key}_se"))
