"""`sae export`: a dictionary, or what its features do, in another tool's format, in a directory that the tool reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.export import DELPHI, NEURONPEDIA, ExportConfig
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.config.inheritance import schema_name
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document
from sae_cli.errors import RequestError
from sae_cli.evaluation import latent_cache
from sae_cli.evaluation.latent_cache import CachePass
from sae_cli.evaluation.outgoing import outgoing
from sae_cli.evaluation.subject import ModelSubject, make_subject
from sae_cli.jobs.estimate import Estimate, announce, expect_memory
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.shortage import warn_if_short
from sae_cli.models import tokenizer_location
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.formats import writable
from sae_cli.runs.formats.places import module_path
from sae_cli.runs.parents import check_model, model_facts


def run(config: ExportConfig, directory: Path) -> StageResult:
    """Write the dictionary of `config.run`, or what its features do."""
    source = read_dictionary_run(config.run)
    of_text = config.to == DELPHI
    make, found = _export, None
    if of_text:
        make, found = _latents, partial(check_served, source=source, data=config.data)
    finished = once(Claim(config, directory, "exporting"), partial(make, source=source), found)
    facts = finished.manifest.facts
    folded = facts.get("folded", [])
    rows = [("format", str(facts["format"])), *(("folded", str(each)) for each in folded)]
    rows += [("file", name) for name in finished.manifest.files if name != "config.yaml"]
    return StageResult(
        directory=directory,
        title="export",
        document={"run": str(directory), "command": "export", "facts": facts, "figures": {}},
        table=[*rows, ("run", str(directory))],
    )


def _export(claim: Claim[ExportConfig], source: DictionaryRun) -> FinishedRun:
    config = claim.config
    kind = writable(config.to, (DELPHI, NEURONPEDIA))
    written = kind.write(outgoing(source, config.verify))
    with claim.open(parents=[source.run]) as claimed:
        for name, document in written.documents.items():
            claimed.write_json(name, document)
        for name, tensors in written.tensors.items():
            claimed.write_tensors(name, tensors)
        for name, tensors in written.pickles.items():
            claimed.write_pickle(name, tensors)
        return claimed.finish(format=kind.name, folded=list(written.folded), seconds=claim.seconds())


def _latents(claim: Claim[ExportConfig], source: DictionaryRun) -> FinishedRun:
    config, data = claim.config, source.data(claim.config.data)
    if isinstance(data, TruthData):
        raise RequestError(
            f"{source.run.directory}: to={DELPHI} needs a text and a language model, and {data.called} has neither"
        )
    site = source.site()
    n_features = source.run.expect("sae.safetensors", {"W_enc": "F32 F D"}, others=True)["F"]
    if config.splits > n_features:
        raise RequestError(f"splits={config.splits}: expected at most one for each of the {n_features} features")
    check_model(source)
    text = measured_text(source, config.data)
    claim.start_clock()
    dictionary = load_dictionary(source.run, config.verify).to(build.device(config.device))
    subject = make_subject(source, config.data, config.model_rows, dictionary.W_dec.device)
    assert isinstance(subject, ModelSubject)
    subject.check(dictionary)
    _expect_memory(subject)
    path = source.model().path
    place = (site.layer is not None and module_path(site.hook.point.value, site.layer, path)) or site.label
    folder = f"{latent_cache.FOLDER}/{place}"
    with claim.open([source.run]) as claimed:
        found = CachePass(subject, config.features, config.splits).write(claimed, dictionary, folder)
        claimed.write_json(f"{folder}/{latent_cache.CONFIG}", _about(config, data, subject, source))
        what = f"the {config.features.split.value} text"
        warn_if_short("features.tokens", config.features.tokens, found.tokens, what)
        facts = {**text_facts(text), **model_facts(source), "seconds": claim.seconds()}
        return claimed.finish(format=DELPHI, **found._asdict(), **facts)


def _expect_memory(subject: ModelSubject) -> None:
    parameters = sum(p.nbytes for p in subject.model.hf.parameters())
    needs = Estimate(memory=parameters + 3 * 4 * latent_cache.FEATURES_AT_ONCE)
    announce([needs])
    expect_memory(needs.memory)


def _about(config: ExportConfig, data: DataConfig, subject: ModelSubject, source: DictionaryRun) -> Document:
    """What delphi remembers of a cache."""
    model = source.model()
    place = getattr(data, "path", schema_name(data))
    return {
        "dataset_repo": place,
        "dataset_split": config.features.split.value,
        "dataset_name": getattr(data, "subset", ""),
        "dataset_column": getattr(data, "column", "text"),
        "batch_size": config.model_rows,
        "cache_ctx_len": build.row_stream(data, subject.model, config.features.split).policy.context,
        "n_tokens": config.features.tokens,
        "n_splits": config.splits,
        "model_name": tokenizer_location(model.path, model.revision),
    }
