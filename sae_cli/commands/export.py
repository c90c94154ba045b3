"""`sae export`: a dictionary in another tool's format, in a run directory that the tool reads as it is."""

from __future__ import annotations

from pathlib import Path

from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.artifacts.survey import EVALUATIONS, measurements_in
from sae_cli.config.commands.export import ExportConfig
from sae_cli.config.paths import with_absolute_paths
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.runs.dictionary_run import DictionaryRun, is_trained_here, read_dictionary_run, trained_with
from sae_cli.runs.file_names import EVAL_FILE, SOURCE_FILE
from sae_cli.runs.formats import writable
from sae_cli.runs.formats.format import Claim as Stated
from sae_cli.runs.formats.format import Outgoing
from sae_cli.tensor_types import Tensor

_FIGURES = ("l0", "fvu", "loss_recovered")
_WITH_K = ("topk", "batch_topk", "matryoshka", "jump_relu")


def run(config: ExportConfig, directory: Path) -> StageResult:
    """Write the dictionary of `config.run`."""
    finished = once(Claim(config, directory, "exporting"), _export)
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


def _export(claim: Claim[ExportConfig]) -> FinishedRun:
    config = claim.config
    kind, source = writable(config.to), read_dictionary_run(config.run)
    written = kind.write(_outgoing(source, config.verify))
    with claim.open(parents=[source.run]) as claimed:
        for name, document in written.documents.items():
            claimed.write_json(name, document)
        for name, tensors in written.tensors.items():
            claimed.write_tensors(name, tensors)
        for name, tensors in written.pickles.items():
            claimed.write_pickle(name, tensors)
        return claimed.finish(format=kind.name, folded=list(written.folded), seconds=claim.seconds())


def _outgoing(source: DictionaryRun, verify: bool) -> Outgoing:
    site, model = source.site(), with_absolute_paths(source.model())
    if site.layer is None:
        raise RequestError(f"{source.run.directory}: expected a dictionary of a layer, found one of {site.label}")
    dictionary, data = load_dictionary(source.run, verify), source.card.data
    evaluated = _evaluation(source)
    report = evaluated.read_json(EVAL_FILE) if evaluated else {}
    return Outgoing(
        dictionary=dictionary,
        model=model.path,
        hook=site.hook.point.value,
        layer=site.layer,
        k=_k(source, dictionary.tensors().get("k"), report.get("l0")),
        frequency=evaluate.read_features(evaluated, dictionary.n_features)["frequency"] if evaluated else None,
        figures={name: float(report[name]) for name in _FIGURES if report.get(name) is not None},
        context=data.context or None if data else None,
        bos=data.bos if data else True,
    )


def _evaluation(source: DictionaryRun) -> FinishedRun | None:
    """Of the evaluations in the run on its own text the one whose features were counted on most tokens."""
    own = [
        read_run(each.directory)
        for each in measurements_in(source.run.directory, EVALUATIONS)
        if each.status == "complete"
        and each.manifest
        and not any(key.startswith("data.") for key in each.manifest.settings)
    ]
    return max(own, key=lambda each: int(each.read_json(EVAL_FILE).get("feature_tokens") or 0), default=None)


def _is_of_data(key: str) -> bool:
    return key.startswith("data.")


def _k(source: DictionaryRun, k: Tensor | None, l0: object) -> int | None:
    """Active features a token: as the dictionary has it, as its training aimed at, or as they were counted."""
    if k is not None:
        return int(k)
    if is_trained_here(source.run) and (config := trained_with(source.run)).sae.architecture in _WITH_K:
        return config.k
    if SOURCE_FILE in source.run.manifest.files:
        claims = (Stated(*each) for each in source.run.read_json(SOURCE_FILE)["claims"])
        l0 = next((each.value for each in claims if each.figure in ("k", "l0")), l0)
    return max(1, round(l0)) if isinstance(l0, float) else None
