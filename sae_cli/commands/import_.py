"""`sae import`: a dictionary of another tool as a run of its own, held to what its source says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.import_ import ImportConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.config.data import DataConfig
from sae_cli.config.hook import HookPoint, ModuleHook, Side, SiteConfig
from sae_cli.config.model import ModelConfig
from sae_cli.dictionaries.card import Card, Wiring
from sae_cli.dictionaries.files import load_dictionary, save_dictionary
from sae_cli.documents import Document
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation import evaluate
from sae_cli.evaluation.evaluate_table import result
from sae_cli.evaluation.source_check import disagreement
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.models.load import heads_path
from sae_cli.runs.dictionary_run import IMPORT, DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import EVAL_FILE, SOURCE_FILE
from sae_cli.runs.formats import read
from sae_cli.runs.formats.addresses import fetch
from sae_cli.runs.formats.format import Claim as Stated
from sae_cli.runs.formats.format import Imported
from sae_cli.runs.formats.places import EMBEDDED, heads_layer, model_of, site_of
from sae_cli.terminal import console


def run(config: ImportConfig, directory: Path) -> StageResult:
    """Import the dictionary at `config.source`, and measure it."""
    finished = once(Claim(config, directory, "importing"), _import)
    source = read_dictionary_run(finished.directory)
    ended = _checked(config, source) if config.check else StageResult(directory=directory, document={"figures": {}})
    ended.title, described = IMPORT, finished.read_json(SOURCE_FILE)
    ended.document |= {"run": str(directory), "command": IMPORT, "source": described}
    head = [("format", described["format"]), ("dictionary", described["dictionary"]), ("of", described["of"])]
    head += [("normalization", each) for each in [described.get("normalization")] if each]
    head += [("folded", each) for each in described["folded"]]
    head += [("it says", f"{each[0]} {each[1]:.4g} ({each[2]})") for each in described["claims"]]
    rows = ended.table if config.check else [("run", str(directory))]
    ended.table = [*head, *rows]
    return ended


def _import(claim: Claim[ImportConfig]) -> FinishedRun:
    config = claim.config
    files, revision = fetch(config.source)
    kind, imported = read(files, config.format)
    card = _card(config, imported, {"address": config.source, "format": kind.name, "sha256": files.sha256()}, revision)
    dictionary, found = imported.dictionary, imported.dictionary.normalization
    described: Document = {
        "format": kind.name,
        "dictionary": f"{dictionary.architecture}, {dictionary.n_features:,} features of width {dictionary.d_out}",
        "normalization": f"each token's activation is {found.described}" if found else None,
        "of": f"{card.model.path if card.model else ''} {card.site.label}",
        "folded": list(imported.folded),
        "claims": [list(each) for each in imported.claims],
        "files": {name: {"bytes": each.bytes, "sha256": each.sha256} for name, each in files.read.items()},
    }
    with open_run(claim.directory, IMPORT, claim.settings, claim.overwrite) as claimed:
        save_dictionary(claimed, dictionary, card.header())
        claimed.write_json(SOURCE_FILE, described)
        facts = {"normalization": found.value} if found else {}
        return claimed.finish(width=dictionary.d_out, **facts, seconds=claim.seconds())


def _card(config: ImportConfig, imported: Imported, provenance: dict[str, str], revision: str | None) -> Card:
    model = _model(config, imported)
    site = _site(config, imported, model)
    if revision:
        provenance["revision"] = revision
    if (normalization := imported.dictionary.normalization) is not None:
        provenance["normalization"] = normalization.value
    if imported.folded:
        provenance["folded"] = "; ".join(imported.folded)
    data = config.data or _own_text(model, imported)
    return Card(model=model, wiring=Wiring.at(site), data=data, source="elsewhere", provenance=provenance)


def _model(config: ImportConfig, imported: Imported) -> ModelConfig:
    if config.model is not None:
        return config.model
    if imported.model is None:
        raise RequestError(f"{config.source}: does not say which model it is of: give model=")
    if (path := model_of(imported.model)) is None:
        raise RequestError(
            f"{config.source}: is of the model {imported.model!r}, which is no name of the hub and no folder here: "
            "give model="
        )
    return ModelConfig(path=path, name=path.removeprefix(EMBEDDED) if path.startswith(EMBEDDED) else "")


def _site(config: ImportConfig, imported: Imported, model: ModelConfig) -> SiteConfig:
    if config.hook is None and imported.hook and (of_heads := heads_layer(imported.hook)) is not None:
        return _heads(config, of_heads if config.layer is None else config.layer, model)
    stated = site_of(imported.hook) if imported.hook else None
    hook = config.hook or (stated and stated.hook)
    if hook is None:
        found = f"names {imported.hook!r}, no hook point here" if imported.hook else "does not say where it reads"
        raise RequestError(f"{config.source}: {found}: give hook= and layer=, or hook=module hook.path=")
    layer = config.layer if config.layer is not None else stated and stated.layer
    if layer is None and hook.has_layer:
        raise RequestError(f"{config.source}: does not say which layer it reads: give layer=")
    return SiteConfig.of(hook, layer or 0)


def _heads(config: ImportConfig, layer: int, model: ModelConfig) -> SiteConfig:
    """The heads of an attention, one after another: what its last linear map reads."""
    if (path := heads_path(model.path, layer, revision=model.revision)) is None:
        raise RequestError(
            f"{config.source}: reads the heads of the attention of block {layer}, and it is not known which module of "
            f"{model.path} they go into: give hook=module hook.path= hook.side=input"
        )
    return SiteConfig(ModuleHook(point=HookPoint.module, path=path, side=Side.input), None)


def _own_text(model: ModelConfig, imported: Imported) -> DataConfig:
    """The text that a model is measured on where none is given: what the embedded ones and Pythia were trained on, as
    far as it can be had, else web text."""
    preset = "stdlib" if model.path.startswith(EMBEDDED) else "pile" if "pythia" in model.path else "fineweb"
    data = configured(TrainConfig, [f"data={preset}"]).data
    return data if imported.bos is None else replace(data, bos=imported.bos)


def _checked(config: ImportConfig, source: DictionaryRun) -> StageResult:
    """Its evaluation, which is what its source says; a `JobError` where it is not."""
    asked = evaluate.settings_for(source.run.directory, config)
    name = evaluate.default_name(asked)
    finished = evaluate.evaluation(source, asked, name)
    claims = [Stated(*each) for each in source.run.read_json(SOURCE_FILE)["claims"]]
    dictionary = load_dictionary(source.run, config.verify)
    line = disagreement(source, dictionary, claims, finished.read_json(EVAL_FILE), config.device, config.model_rows)
    if line is not None:
        raise JobError(f"{source.run.directory}: {line}; check=false takes it as it is")
    console.log("it is what its source says" if claims else "its source says nothing of it that can be measured")
    return result(source, finished)
