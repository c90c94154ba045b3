"""A dictionary that another tool is to read, with what its run and its evaluations know of it."""

from __future__ import annotations

from sae_cli.artifacts.stored_run import FinishedRun, read_run
from sae_cli.artifacts.survey import EVALUATIONS, measurements_in
from sae_cli.config.paths import with_absolute_paths
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate
from sae_cli.runs.dictionary_run import DictionaryRun, is_trained_here, trained_with
from sae_cli.runs.file_names import EVAL_FILE, SOURCE_FILE
from sae_cli.runs.formats.format import Claim as Stated
from sae_cli.runs.formats.format import Outgoing
from sae_cli.runs.formats.places import HEADS, heads_layer
from sae_cli.tensor_types import Tensor

_FIGURES = ("l0", "fvu", "loss_recovered")
_WITH_K = ("topk", "batch_topk", "matryoshka", "jump_relu")


def outgoing(source: DictionaryRun, verify: bool) -> Outgoing:
    """The dictionary of a run.

    Raises:
        RequestError: it is of no one place in a layer of a language model that other tools have.
        JobError: a file is damaged.
    """
    site, model = source.site(), with_absolute_paths(source.model())
    hook, layer = site.hook.point.value, site.layer
    if (heads := heads_layer(site.label)) is not None:
        hook, layer = HEADS, heads
    if layer is None:
        raise RequestError(f"{source.run.directory}: expected a dictionary of a layer, found one of {site.label}")
    dictionary, data = load_dictionary(source.run, verify), source.card.data
    evaluated = largest_evaluation(source)
    report = evaluated.read_json(EVAL_FILE) if evaluated else {}
    return Outgoing(
        dictionary=dictionary,
        model=model.path,
        hook=hook,
        layer=layer,
        k=_k(source, dictionary.tensors().get("k"), report.get("l0")),
        frequency=evaluate.read_features(evaluated, dictionary.n_features)["frequency"] if evaluated else None,
        figures={name: float(report[name]) for name in _FIGURES if report.get(name) is not None},
        context=data.context or None if data else None,
        bos=data.bos if data else True,
    )


def largest_evaluation(source: DictionaryRun) -> FinishedRun | None:
    """Of the evaluations in the run on its own text the one whose features were counted on most tokens."""
    own = [
        read_run(each.directory)
        for each in measurements_in(source.run.directory, EVALUATIONS)
        if each.status == "complete"
        and each.manifest
        and not any(key.startswith("data.") for key in each.manifest.settings)
    ]
    return max(own, key=lambda each: int(each.read_json(EVAL_FILE).get("feature_tokens") or 0), default=None)


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
