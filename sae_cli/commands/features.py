"""`sae features`: pages of a dictionary's features: where each fires, what it writes, which are like it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from sae_cli import build
from sae_cli.activations.harvest_search import trained_on
from sae_cli.activations.text_read import check_served, text_facts, text_of
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.features import FeaturesConfig
from sae_cli.config.data import TruthData
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate
from sae_cli.evaluation.ablation import Ablation
from sae_cli.evaluation.contexts import FEATURES_AT_ONCE, ContextPass, Contexts
from sae_cli.evaluation.evaluate_table import ablation_rows
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.jobs.estimate import Estimate, announce, expect_memory
from sae_cli.jobs.once import Claim, ClaimInside, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.shortage import warn_if_short
from sae_cli.metrics import VERSION
from sae_cli.metrics.histograms import logit_histogram
from sae_cli.metrics.logit_weights import SHOWN
from sae_cli.metrics.report import PagesReport, WordsReport
from sae_cli.metrics.similarity import nearest_others
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import ABLATION_FILE, CONTEXTS_FILE, EVAL_FILE, HISTOGRAMS_FILE, SHEETS_FILE, SHEETS_JSON
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.text.provenance import TextRecord
from sae_cli.text.token_text import token_texts

_MOST_DOCUMENTS = 40_000
"""Documents whose keys are written, so that the file stays one that is read; the others have their ids only."""

_RENAMED = {
    "logit_top_tokens": "top_token",
    "logit_top_weights": "top_weight",
    "logit_bottom_tokens": "bottom_token",
    "logit_bottom_weights": "bottom_weight",
}
_NOT_OF_FEATURES = ("tokens", "neuron_kurtosis", "neuron_participation")


def run(config: FeaturesConfig, directory: Path, name: str) -> StageResult:
    """Make the pages of the dictionary in `directory`; they go into its folder `features/<name>`."""
    source = read_dictionary_run(directory)
    return _result(source, pages(source, config, name))


def pages(source: DictionaryRun, config: FeaturesConfig, name: str) -> FinishedRun:
    """The finished pages of a dictionary, made if there are none."""
    claim = ClaimInside(config, source.run, config.out, name, doing="making them")
    found = partial(check_served, source=source, data=config.data)
    return once(claim, partial(_make, source=source), found)


def _make(claim: Claim[FeaturesConfig], source: DictionaryRun) -> FinishedRun:
    config = claim.config
    _check(source, config)
    measured = _evaluation(source, config)
    claim.start_clock()
    dictionary = load_dictionary(source.run, config.verify).to(build.device(config.device))
    statistics = evaluate.read_features(measured, dictionary.n_features)
    features = _chosen(config, statistics)
    subject = make_subject(source, config.data, config.model_rows, dictionary.W_dec.device)
    assert isinstance(subject, ModelSubject)
    subject.check(dictionary)
    ablation = _ablation(subject, dictionary, config)
    text = text_of(measured.manifest)
    harvest = _harvest(source, config, text)
    reading = ContextPass(subject, config.features.split, config.contexts, harvest)
    _expect_memory(reading, len(features))

    parents = [source.run, measured, *([harvest] if harvest else [])]
    with claim.open(parents) as claimed:
        found = reading.of(dictionary, features)
        tensors = _of_features(dictionary, statistics, features)
        about: PagesReport = {
            **_about(found, tensors, config, subject),
            "dictionary": str(source.run.directory.resolve()),
            "evaluation": str(measured.directory.resolve()),
            "statistics_tokens": int(statistics["tokens"]),
            "ablation": [],
        }
        if ablation:
            about["ablation"], effects = ablation.results()
            claimed.write_tensors(ABLATION_FILE, effects)
        claimed.write_tensors(CONTEXTS_FILE, found.tensors)
        claimed.write_tensors(SHEETS_FILE, tensors)
        claimed.write_tensors(HISTOGRAMS_FILE, _histograms(found, features, dictionary, subject, measured))
        claimed.write_json(SHEETS_JSON, about)
        warn_if_short(
            "contexts.tokens", config.contexts.tokens, found.tokens, f"the {config.features.split.value} text"
        )
        return claimed.finish(**text_facts(text), **model_facts(source), seconds=claim.seconds())


def _check(source: DictionaryRun, config: FeaturesConfig) -> None:
    """Refuse what has no text before anything is measured."""
    n_features = source.run.expect("sae.safetensors", {"W_enc": "F32 F D"}, others=True)["F"]
    for key in ("only", "ablate"):
        for each in getattr(config, key):
            if not 0 <= each < n_features:
                raise RequestError(f"{key}={each}: expected features from 0 to {n_features - 1}, found {each}")
    if isinstance(data := source.data(config.data), TruthData):
        raise RequestError(
            f"{source.run.directory}: contexts need a text and a language model, and {data.called} has neither; "
            "sae eval gives the statistics of its features"
        )
    check_model(source)


def _evaluation(source: DictionaryRun, config: FeaturesConfig) -> FinishedRun:
    settings = EvalConfig(
        run=str(source.run.directory),
        data=config.data,
        device=config.device,
        verify=config.verify,
        model_rows=config.model_rows,
        eval=config.eval,
        features=config.features,
        out=config.out,
    )
    return evaluate.evaluation(source, settings, evaluate.default_name(settings))


def _harvest(source: DictionaryRun, config: FeaturesConfig, text: TextRecord | None) -> FinishedRun | None:
    """What the dictionary was trained on, where these pages are of the same text."""
    if config.data is not None or config.features.split is not Split.train or not (found := trained_on(source)):
        return None
    if (before := text_of(found.manifest)) and text and before.difference(text):
        return None
    console.log(f"reading activations from {found.directory}")
    found.check_files(config.verify)
    return found


def _chosen(config: FeaturesConfig, statistics: dict[str, Tensor]) -> Int[Tensor, " C"]:
    """The features that pages are made of, ascending [C]."""
    chosen = list(config.only)
    for each in config.at_frequency:
        chosen += nearest_frequency(statistics["count"], statistics["frequency"], each, config.n).tolist()
    return torch.tensor(sorted(set(chosen))) if chosen else torch.arange(len(statistics["count"]))


def nearest_frequency(
    count: Int[Tensor, " F"], frequency: Float[Tensor, " F"], wanted: float, n: int
) -> Int[Tensor, " C"]:
    """The n features that fire at all and do so nearest to a frequency, of equal ones the first [at most n].

    Raises:
        RequestError: none fires.
    """
    alive = (count > 0).nonzero()[:, 0]
    if not len(alive):
        raise RequestError(f"at_frequency={wanted:g}: expected features that fire, found none; give only= instead")
    return alive[(frequency[alive] - wanted).abs().argsort(stable=True)[:n]]


def _ablation(subject: ModelSubject, dictionary: Dictionary, config: FeaturesConfig) -> Ablation | None:
    if not config.ablate:
        return None
    text = HeldOutText(subject.model, subject.data, subject.model_rows, config.eval)
    return Ablation(subject.model, subject.wires, dictionary, config.ablate, text)


def _expect_memory(reading: ContextPass, features: int) -> None:
    parameters = sum(p.nbytes for p in reading.subject.model.hf.parameters())
    needs = Estimate(memory=parameters + 3 * 4 * FEATURES_AT_ONCE + 2 * features * reading.shape.bytes_a_feature)
    announce([needs])
    expect_memory(needs.memory)


def _of_features(
    dictionary: Dictionary, statistics: dict[str, Tensor], features: Int[Tensor, " C"]
) -> dict[str, Tensor]:
    """What `sheets.safetensors` holds: what the evaluation knows of these features, and those nearest to them."""
    of_features = {name: each for name, each in statistics.items() if name not in _NOT_OF_FEATURES}
    tensors = {_RENAMED.get(name, name): each[features] for name, each in of_features.items()}
    nearest, cosine = nearest_others(dictionary.W_dec.cpu(), features, SHOWN)
    return {"feature": features, **tensors, "nearest": nearest, "nearest_cosine": cosine}


def _histograms(
    found: Contexts, features: Int[Tensor, " C"], dictionary: Dictionary, subject: ModelSubject, measured: FinishedRun
) -> dict[str, Tensor]:
    """What `histograms.safetensors` holds: of activations in the text of the pages, and of logit weights where there
    are such."""
    inverse_scale = float(measured.read_json(EVAL_FILE).get("final_norm_inverse_scale", 1.0))
    rows = subject.rows_at_logits(dictionary.W_dec.detach()[features.to(dictionary.W_dec.device)], inverse_scale)
    weights = {} if rows is None else logit_histogram(rows, subject.model.end.logit_space.W)
    return {"feature": features, **found.histograms, **weights}


def _about(found: Contexts, tensors: dict[str, Tensor], config: FeaturesConfig, subject: ModelSubject) -> WordsReport:
    """What `sheets.json` holds beside paths: counts, and the words for the numbers in the other files."""
    used = [found.tensors["tokens"], *(tensors[name] for name in ("top_token", "bottom_token") if name in tensors)]
    ids = [each for each in torch.cat([each.unique().long() for each in used]).unique().tolist() if each >= 0]
    texts = token_texts(subject.model.tokenizer, ids)
    keys = sorted(found.documents.items())[:_MOST_DOCUMENTS]
    return {
        "tokens_seen": found.tokens,
        "split": config.features.split.value,
        "vocabulary": {str(each): text for each, text in zip(ids, texts, strict=True)},
        "documents": {str(each): key.encode(errors="backslashreplace").decode() for each, key in keys},
        "bands": config.contexts.bands,
        "context": found.context,
        "metrics_version": VERSION,
    }


@shows_stored
def _result(source: DictionaryRun, finished: FinishedRun) -> StageResult:
    about: PagesReport = finished.read_json(SHEETS_JSON)
    entries = finished.read_header(CONTEXTS_FILE).tensors
    features, slots, width = entries["tokens"].shape
    figures = {"sheets": features, "tokens_seen": about["tokens_seen"]}
    directory = source.run.directory
    summary = {key: about[key] for key in ("tokens_seen", "split", "bands", "evaluation", "ablation")}
    rows = [
        ("features", f"{features:,}, each with up to {slots} contexts of {width} tokens"),
        ("text", f"{about['tokens_seen']:,} tokens ({about['split']} split)"),
        *ablation_rows(about.get("ablation", [])),
        ("run", str(directory)),
        ("evaluation", about["evaluation"]),
        ("sheets", str(finished.directory)),
    ]
    return StageResult(
        directory=directory,
        title="features",
        document={
            "run": str(directory),
            "command": "features",
            "sheets": str(finished.directory),
            "features": summary,
            "figures": figures,
        },
        table=rows,
    )
