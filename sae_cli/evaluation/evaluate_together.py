"""`sae eval run=[A,B,C]`: a language model that runs on several dictionaries at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from sae_cli import build
from sae_cli.activations.text_read import check_served, measured_text, text_facts
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import absolute
from sae_cli.config.settings import flatten
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document, Facts
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation.held_out import HeldOutText, check_losses
from sae_cli.evaluation.loss_tables import domain_rows, held_out, loss_rows, reference_rows
from sae_cli.evaluation.references import References
from sae_cli.evaluation.splice_together import JointSplicer
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION
from sae_cli.models import LanguageModel, Site
from sae_cli.runs.definitions import VERSION_KEY
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import EVAL_FILE
from sae_cli.runs.parents import check_model, model_facts
from sae_cli.runs.row_files import write_rows
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.text.provenance import TokensHash

_FIGURES = ("ce_increase", "loss_recovered", "kl_sae")


def run(config: EvalConfig, directory: Path) -> StageResult:
    """Evaluate the dictionaries of `config.run` spliced in together; `directory` is a run of its own."""

    def found(finished: FinishedRun) -> None:
        for source in map(read_dictionary_run, config.run):
            check_served(finished, source, config.data)

    return _result(once(Claim(config, directory), _evaluate, found))


def _evaluate(claim: Claim[EvalConfig]) -> FinishedRun:
    config = claim.config
    sources = [read_dictionary_run(each) for each in config.run]
    data = _check(sources, config.data)
    for source in sources:
        check_model(source)
    texts = [measured_text(source, config.data) for source in sources]
    places = [source.site() for source in sources]
    model = build.language_model(sources[0].model(), data, build.device(config.device), places)
    model.check_predicts("run=[…] of several")
    at = _by_site(sources, model)
    references = None
    if config.references:
        references = References.of(sources[0].model(), config.references, config.model_rows)
        references.check(data)
    dictionaries = {site: _load(source, site, model, config.verify) for site, source in at.items()}
    text = HeldOutText(model, data, config.model_rows, config.eval)

    with claim.open(parents=[source.run for source in at.values()]) as claimed:
        splicer = JointSplicer(model, dictionaries)
        read = TokensHash()
        for rows in text.rows("losses"):
            splicer.add(rows)
            read.add(rows.tokens.numpy())
        check_losses(splicer.losses, "the model and the dictionaries in it")
        placed = references.place(text, splicer.losses) if references else {}
        report: Document = {**_report(splicer, text, at), **placed, "tokens_sha256": read.hexdigest()}
        text.say_if_short(splicer.tokens, splicer.losses.pooled.documents)
        claimed.write_json(EVAL_FILE, report)
        read_by = {f"references.{name}": sums for name, sums in references.read.items()} if references else {}
        write_rows(claimed, {"dictionaries": splicer.losses.pooled} | read_by)
        facts = {**text_facts(texts[0]), **model_facts(sources[0]), "tokens_sha256": report["tokens_sha256"]}
        return claimed.finish(**facts, seconds=claim.seconds())


def _check(sources: Sequence[DictionaryRun], data: DataConfig | None) -> DataConfig:
    """The text of the evaluation; refused where the dictionaries are not of one model, or of several texts."""
    truths = [each for each in (*(source.card.truth for source in sources), data) if isinstance(each, TruthData)]
    if truths:
        found = truths[0].called
        raise RequestError(f"run=[…] of several: expected dictionaries of a language model, found {found}")
    first, *others = sources
    for each in others:
        if found := _difference(first.model(), each.model(), "model"):
            raise RequestError(
                f"{each.run.directory}: expected the model of {first.run.directory}, found {found}; leave one out"
            )
        if data is None and (found := _difference(first.data(), each.data(), "data")):
            raise RequestError(
                f"{each.run.directory}: expected the text of {first.run.directory}, found {found}; say which text with "
                "data="
            )
    return first.data(data)


def _difference(expected: ModelConfig | DataConfig, found: ModelConfig | DataConfig, group: str) -> str:
    """The first setting that differs, but for what the model is called."""
    one, other = flatten(expected), flatten(found)
    for settings in (one, other):
        if isinstance(path := settings.get("path"), str):
            settings["path"] = absolute(path)
    for key in {**one, **other}:
        if one.get(key) != other.get(key) and f"{group}.{key}" != "model.name":
            return f"{group}.{key}={other.get(key)} instead of {one.get(key)}"
    return ""


def _by_site(sources: Sequence[DictionaryRun], model: LanguageModel) -> dict[Site, DictionaryRun]:
    """The dictionaries by where they go, in the order of the layers; refused where two would go to one place."""
    at: dict[Site, DictionaryRun] = {}
    taken: dict[tuple[nn.Module, bool], DictionaryRun] = {}
    for source in sources:
        site = build.site(source.site(), model)
        place = model.target(site).replaced
        if place is None:
            raise RequestError(
                f"run=[…]: {source.run.directory} is of {site.label}, which acts on the direct path only and cannot "
                "be put into the model together with others; evaluate it alone"
            )
        tap = model.tap(place)
        where = (tap.module, tap.at_input)  # a module may have a name of its own too
        if where in taken:
            both = f"{taken[where].run.directory} and {source.run.directory}"
            raise RequestError(f"run=[…]: expected one dictionary for {place.label}, found {both}; leave one out")
        at[site] = taken[where] = source
    return dict(sorted(at.items(), key=lambda item: (item[0].layer, item[0].label)))


def _load(source: DictionaryRun, site: Site, model: LanguageModel, verify: bool) -> Dictionary:
    dictionary = load_dictionary(source.run, verify).to(model.device)
    if dictionary.d_out != (width := model.width(site)):
        raise JobError(
            f"{source.run.directory}: the dictionary writes activations of width {dictionary.d_out}, but {site.label} "
            f"has width {width}"
        )
    return dictionary


def _report(splicer: JointSplicer, text: HeldOutText, at: dict[Site, DictionaryRun]) -> Document:
    dictionaries: dict[str, Facts] = {
        site.label: {
            "run": str(source.run.directory),
            "features": splicer.dictionaries[site].n_features,
            **splicer.of_site(site),
        }
        for site, source in at.items()
    }
    return {
        **splicer.losses.results(),
        "dictionaries": dictionaries,
        **text.domain_results(splicer.losses),
        "tokens": splicer.tokens,
        "loss_tokens": int(splicer.losses.total[0]),
        "rows": splicer.losses.rows,
        "documents": splicer.losses.pooled.documents,
        "split": Split.held_out.value,
        "positions": text.positions(),
        VERSION_KEY: VERSION,
    }


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    report = finished.read_json(EVAL_FILE)
    figures = {key: report[key] for key in _FIGURES}
    rows = [("held-out tokens", held_out(report)), *loss_rows(report)]
    for name, each in report["dictionaries"].items():
        l0, fvu = (f"{each[key]:.4g} (alone {each[f'{key}_alone']:.4g})" for key in ("l0", "fvu"))
        rows.append((name, f"{each['features']:,} features, L0 {l0}, FVU {fvu}"))
    rows += [*domain_rows(report), *reference_rows(report), ("run", str(finished.directory))]
    return StageResult(
        directory=finished.directory,
        title=f"eval of {len(report['dictionaries'])} dictionaries at once",
        document={"run": str(finished.directory), "command": "eval", "eval": report, "figures": figures},
        table=rows,
    )
