"""`sae bench`: a dictionary by the protocol and the formulas of a benchmark, ours beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.bench import BenchConfig
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document, Facts
from sae_cli.errors import RequestError
from sae_cli.evaluation.encode import FEATURES_AT_ONCE
from sae_cli.evaluation.held_out import LOGITS_MEMORY
from sae_cli.evaluation.loss_tables import held_out
from sae_cli.evaluation.saebench import OURS, CoreBenchmark
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.jobs.estimate import Estimate, announce, expect_memory
from sae_cli.jobs.once import Claim, ClaimInside, once
from sae_cli.jobs.result import StageResult
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


def run(config: BenchConfig, directory: Path, name: str) -> StageResult:
    """Measure the dictionary in `directory`; the figures go into its folder `bench/<name>`."""
    source = read_dictionary_run(directory)
    claim = ClaimInside(config, source.run, config.out, name)
    found = partial(check_served, source=source, data=_data(source, config) if config.data else None)
    return _result(source, once(claim, partial(_measure, source=source), found))


def _measure(claim: Claim[BenchConfig], source: DictionaryRun) -> FinishedRun:
    config = claim.config
    data = _data(source, config)
    check_model(source)
    source.site()
    text = measured_text(source, data if config.data else None)
    device = build.device(config.device)
    dictionary = load_dictionary(source.run, config.verify).to(device)
    subject = make_subject(source, data, config.model_rows, device)
    assert isinstance(subject, ModelSubject)
    if config.context > (most := subject.model.max_context):
        raise RequestError(f"context={config.context}: expected 2 to {most} for this model; give context={most}")
    needs = sum(p.nbytes for p in subject.model.hf.parameters()) + LOGITS_MEMORY + 4 * FEATURES_AT_ONCE
    announce([Estimate(memory=needs)])
    expect_memory(needs)
    benchmark = CoreBenchmark(subject, config.eval, config.batch_rows)

    with claim.open(parents=[source.run]) as claimed:
        found = benchmark.of(dictionary)
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
        facts = text_facts(text) | model_facts(source) | {"tokens_sha256": found.text["tokens_sha256"]}
        return claimed.finish(**facts, seconds=claim.seconds())


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
