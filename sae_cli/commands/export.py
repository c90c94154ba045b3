"""`sae export`: a dictionary, or what its features do, in another tool's format, in a directory that the tool reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts, text_of
from sae_cli.artifacts.run_directory import Run
from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.artifacts.survey import SHEETS, measurements_in
from sae_cli.config.commands.export import DELPHI, NEURONPEDIA, ExportConfig
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.config.inheritance import schema_name
from sae_cli.config.naming import last_part
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
from sae_cli.runs.feature_pages import StoredPages
from sae_cli.runs.file_names import CONTEXTS_FILE, SHEETS_JSON
from sae_cli.runs.formats import neuronpedia, writable
from sae_cli.runs.formats.places import EMBEDDED, module_path, transformer_lens_model
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.stored_figures import old_definitions, shows_stored

_COUNTS = ("rows", "tokens", "activations", "features")
"""Facts of what was written, where it is of what features do."""


def run(config: ExportConfig, directory: Path) -> StageResult:
    """Write the dictionary of `config.run`, or what its features do."""
    source = read_dictionary_run(config.run)
    make, found = _export, None
    if config.to == DELPHI:
        make, found = _latents, partial(check_served, source=source, data=config.data)
    elif config.to == NEURONPEDIA:
        make, found = _dashboards, partial(_check_pages, source=source)
    finished = once(Claim(config, directory, "exporting"), partial(make, source=source), found)
    facts = finished.manifest.facts
    folded = facts.get("folded", [])
    rows = [("format", str(facts["format"])), *(("folded", str(each)) for each in folded)]
    rows += [(name, f"{facts[name]:,}") for name in _COUNTS if name in facts]
    rows += [("pages", str(facts["pages"]))] if "pages" in facts else []
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


def _dashboards(claim: Claim[ExportConfig], source: DictionaryRun) -> FinishedRun:
    site = source.site()
    if site.layer is None:
        raise RequestError(
            f"{source.run.directory}: to={NEURONPEDIA}: expected a dictionary of a layer, found one of {site.label}"
        )
    found = _pages(source)
    pages, dictionary = StoredPages(found), load_dictionary(source.run, claim.config.verify)
    if not pages.histograms:
        raise RequestError(
            f"{found.directory}: made by an earlier version, which kept no histograms; make them again: "
            f"sae features {source.run.directory} overwrite=true"
        )
    about = neuronpedia.Dashboards(
        model=last_part("/" + transformer_lens_model(source.model().path).removeprefix(EMBEDDED)),
        layer=site.layer,
        set=f"{site.hook.point.value}-{last_part(str(source.run.directory.resolve()))}",
        data_set=text.place if (text := text_of(found.manifest)) else "",
    )
    with claim.open([source.run, found]) as claimed:
        _write(found, claimed, neuronpedia.documents(pages, about, dictionary.W_dec.detach()))
        facts = {"features": len(pages.contexts["feature"]), "pages": str(found.directory.resolve())}
        return claimed.finish(format=NEURONPEDIA, **facts, seconds=claim.seconds())


@shows_stored
def _write(pages: FinishedRun, claimed: Run, documents: Iterable[tuple[str, Document]]) -> None:
    for name, document in documents:
        claimed.write_text(name, json.dumps(document, allow_nan=False))


def _pages(source: DictionaryRun) -> FinishedRun:
    """The finished pages in a run of the most features, and of these of the most text.

    Raises:
        RequestError: there are none by the definitions of this version.
    """
    inside = [each.directory for each in measurements_in(source.run.directory, SHEETS) if each.status == "complete"]
    pages = [each for directory in inside if not old_definitions(each := read_run(directory, "features"))]
    if not pages:
        directory = source.run.directory
        raise RequestError(
            f"{directory}: to={NEURONPEDIA} writes what has been measured of features, found no pages of them; "
            f"first run: sae features {directory}"
        )
    return max(pages, key=_size)


@shows_stored
def _size(pages: FinishedRun) -> tuple[int, int]:
    features = pages.read_header(CONTEXTS_FILE).tensors["feature"].shape[0]
    return features, pages.read_json(SHEETS_JSON)["tokens_seen"]


def _check_pages(finished: FinishedRun, source: DictionaryRun) -> None:
    """See that finished dashboards are of the pages that there are now."""
    if (now := _pages(source).as_parent()) not in finished.manifest.parents:
        raise RequestError(
            f"{finished.directory}: was written from other pages than there are now in {now.path}; overwrite=true "
            "writes it again"
        )


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
