"""`sae probe`: the features of a dictionary as classifiers of concepts, beside what they are held against."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.probe import ProbeConfig
from sae_cli.config.probe import ProbeBasis
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.baselines import check_ica
from sae_cli.evaluation.probing.concepts import CONTROL, Concept, ConceptFigures, tensors
from sae_cli.evaluation.probing.confound import confounded
from sae_cli.evaluation.probing.material import Material, MaterialMaker, Probed
from sae_cli.evaluation.probing.saved import saved_tensors
from sae_cli.evaluation.probing.table import absorbed, figures_of, table
from sae_cli.evaluation.probing.text import CorpusText, FileText, LabelledText
from sae_cli.evaluation.subject import ModelSubject, SyntheticSubject, make_subject
from sae_cli.jobs.estimate import Estimate, announce, expect_memory
from sae_cli.jobs.once import Claim, ClaimInside, once
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION
from sae_cli.metrics.probe_reports import ProbeReport
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import PROBE_FILE, PROBE_TENSORS, SAVED_PROBE
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.text.concepts.labelled_files import LabelledFile
from sae_cli.text.concepts.labellers import labeller
from sae_cli.text.token_identity import same_tokens

_ENTRIES = 64
"""Features a token that memory is expected to be needed for."""


def run(config: ProbeConfig, directory: Path, name: str) -> StageResult:
    """Measure the dictionary in `directory`; the figures go into its folder `probe/<name>`."""
    source = read_dictionary_run(directory)
    claim = ClaimInside(config, source.run, config.out, name, doing="probing")
    return _result(source, once(claim, partial(_probe, source=source), partial(_served, source=source, config=config)))


def _served(finished: FinishedRun, source: DictionaryRun, config: ProbeConfig) -> None:
    """See that a finished probe is of the labels and the text that are there now."""
    if config.file is None:
        check_served(finished, source, config.data)
    elif finished.fact("labels_sha256", str) != (now := _sha256(config.file)):
        raise RequestError(
            f"{finished.directory}: was measured with another labels={config.file} than is there now ({now[:8]}…); "
            "restore it, or measure again with overwrite=true"
        )


def _probe(claim: Claim[ProbeConfig], source: DictionaryRun) -> FinishedRun:
    config = claim.config
    _check(source, config)
    facts: Document = {}
    if config.file is None:
        facts = text_facts(measured_text(source, config.data))
    else:
        facts = {"labels_sha256": _sha256(config.file)}
    probed = _probed(source, config)
    text = _text(probed, config)
    control = _control(source, config, probed)
    maker = MaterialMaker(
        probed, control, config.probe, config.pool, config.pair() if config.confound else (), config.judge.n
    )
    _expect_memory(probed, config)
    parents = [source.run, *([read_dictionary_run(config.control).run] if config.control else [])]
    with claim.open(parents=parents) as claimed:
        material = maker.of_truth() if text is None else maker.of_text(text)
        measuring = ConceptFigures(material, config.probe, config.k, config.baselines, config.agree)
        concepts = measuring.all()
        report = _report(config, material, concepts)
        others = {name: each.dictionary for name, each in control.items()}
        if config.confound:
            report["confound"] = confounded(
                material, config.pair(), config.judge, config.probe.seed, probed.dictionary, others
            )
        if concepts:
            claimed.write_tensors(PROBE_TENSORS, tensors(concepts), {"concepts": report["rows"]})
            claimed.write_tensors(SAVED_PROBE, *saved_tensors(concepts))
        claimed.write_json(PROBE_FILE, report)
        return claimed.finish(**facts, **model_facts(source), seconds=claim.seconds())


def _check(source: DictionaryRun, config: ProbeConfig) -> None:
    """Refuse what cannot be measured before anything is loaded."""
    truth = source.card.truth
    if truth and not config.probe.truth:
        raise RequestError(
            f"{source.run.directory}: labels are of a text, and {truth.called} has none; give probe.truth=true, with "
            "which concepts are the features of the truth"
        )
    if config.probe.truth and not truth:
        raise RequestError(
            f"probe.truth=true: expected a dictionary of a known truth (data=synthetic), found one of "
            f"{source.model().name or source.model().path}; give labels="
        )
    if ProbeBasis.ica in config.baselines:
        check_ica()
    if not truth:
        check_model(source)
        labelled = config.file or labeller(config.asked())
        if config.confound and not isinstance(labelled, str):
            for each in config.pair():
                labeller([each])


def _probed(source: DictionaryRun, config: ProbeConfig) -> Probed:
    device = build.device(config.device)
    dictionary = load_dictionary(source.run, config.verify).to(device)
    subject = make_subject(source, config.data, config.model_rows, device)
    subject.check(dictionary)
    return Probed(subject, dictionary)


def _text(probed: Probed, config: ProbeConfig) -> LabelledText | None:
    """What is read; None of a known truth.

    Raises:
        RequestError: there are no such concepts.
    """
    if not isinstance(probed.subject, ModelSubject):
        return None
    pair = config.pair() if config.confound else []
    if config.file is not None:
        found = LabelledFile(config.file)
        if missing := [each for each in pair if each not in found.names]:
            raise RequestError(f"confound={config.confound}: {config.file} has no labels {missing[0]}")
        if pair and found.pooled:
            raise RequestError(f"confound={config.confound}: expected a file with spans, found one label a document")
        return FileText(probed.subject, found, config.probe)
    asked = config.asked()
    known = labeller(asked).names
    return CorpusText(probed.subject, labeller([*asked, *(each for each in pair if each not in known)]), config.probe)


def _control(source: DictionaryRun, config: ProbeConfig, probed: Probed) -> dict[str, Probed]:
    """The other dictionary, where one is asked for.

    Raises:
        RequestError: it cannot be measured on the same tokens.
    """
    if config.control is None:
        return {}
    try:
        control = read_dictionary_run(config.control)
    except RequestError as error:
        raise RequestError(f"control={error}; a control is a dictionary: train one on the network") from error
    if bool(control.card.truth) is not bool(source.card.truth):
        raise RequestError(f"control={config.control}: expected both of a language model or both of a known truth")
    dictionary = load_dictionary(control.run, config.verify).to(probed.dictionary.W_dec.device)
    if isinstance(probed.subject, SyntheticSubject):
        probed.subject.check(dictionary)
        return {CONTROL: Probed(probed.subject, dictionary)}
    check_model(control)
    data = config.data or source.data()
    subject = make_subject(control, data, config.model_rows, dictionary.W_dec.device)
    assert isinstance(subject, ModelSubject)
    subject.check(dictionary)
    if not same_tokens(subject.model.tokenizer, probed.subject.model.tokenizer):
        raise RequestError(f"control={config.control}: expected a model that reads the same tokens, found another's")
    return {CONTROL: Probed(subject, dictionary)}


def _expect_memory(probed: Probed, config: ProbeConfig) -> None:
    subject, settings = probed.subject, config.probe
    model = sum(p.nbytes for p in subject.model.hf.parameters()) if isinstance(subject, ModelSubject) else 0
    width = probed.dictionary.d_in + probed.dictionary.d_out
    tokens = settings.tokens + settings.test_tokens
    needs = Estimate(memory=model + tokens * (4 * width + 12 * _ENTRIES) * (1 + (config.control is not None)))
    announce([needs])
    expect_memory(needs.memory)


def _report(config: ProbeConfig, material: Material, concepts: list[Concept]) -> ProbeReport:
    reports = [each.report for each in concepts]
    labels = material.tokens.labels
    return {
        "figures": figures_of(reports),
        "concepts": reports,
        "absorbed": absorbed(material, concepts),
        "skipped": [{"concept": each.concept, "kind": each.kind, "reason": each.reason} for each in material.skipped],
        "rows": [f"{each['concept']} ({each['kind']})" for each in reports],
        "features": material.captured.n_features,
        "hypotheses": material.captured.n_features * len(reports),
        "tokens": len(labels),
        "ties": int((labels < 0).sum()),
        "unit": material.unit,
        "metrics_version": VERSION,
    }


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"labels={path}: cannot be read: {error.strerror or error}") from error


@shows_stored
def _result(source: DictionaryRun, finished: FinishedRun) -> StageResult:
    report: ProbeReport = finished.read_json(PROBE_FILE)
    header, rows = table(report)
    if not rows:
        raise JobError(f"{finished.directory}: no concept has enough tokens")
    blank = [""] * (len(header) - 2)
    return StageResult(
        directory=source.run.directory,
        title="features as classifiers",
        document={
            "run": str(source.run.directory),
            "command": "probe",
            "probe": {"directory": str(finished.directory), **report},
            "figures": report["figures"],
        },
        table=[*rows, ("run", str(source.run.directory), *blank), ("probe", str(finished.directory), *blank)],
        header=header,
    )
