"""`sae prune-high-freq`: a dictionary without its most, or its least, frequent features, and what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from sae_cli import build
from sae_cli.activations.text_read import text_facts, text_of
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.stored import TRAINING_FILE, as_yaml
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import DICTIONARY_FILE, load_dictionary, save_dictionary
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.edits.prune import Limits, control_features, kept_features, recentered
from sae_cli.errors import RequestError
from sae_cli.evaluation import evaluate
from sae_cli.evaluation.encode import encoded, measure
from sae_cli.evaluation.read_in_step import counted_activations
from sae_cli.evaluation.subject import make_subject
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.side_by_side import Outcome, outcome_of
from sae_cli.metrics.reconstruction import MeanError
from sae_cli.models.logit_space import LOGIT_ROOT
from sae_cli.runs.dictionary_run import PRUNE, DictionaryRun, is_trained_here, read_dictionary_run, trained_with
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.terminal.progress import progress
from sae_cli.training.finetune import finetuned
from sae_cli.training.forbidden_run import FORBIDDEN

KEPT = "kept_index"
"""The numbers that the features had in the dictionary as it was trained, int64 [F]."""
_LAYOUTS = {KEPT: "I64 F", FORBIDDEN: "F32 D", LOGIT_ROOT: "F32 D D"}


def run(config: PruneConfig, directory: Path) -> StageResult:
    """Prune the dictionary of `config.run` and evaluate it before and after."""
    return _result(evaluate.run(*_pruned(config, directory)), directory)


def run_together(requests: Sequence[tuple[PruneConfig, Path]]) -> list[Outcome]:
    """Prune one after another, then evaluate all; for those of one place and text the model's own work is done once."""
    made = [outcome_of(partial(_pruned, *each)) for each in requests]
    asked = {number: each for number, each in enumerate(made) if not isinstance(each, Exception)}
    evaluated = dict(zip(asked, evaluate.run_together([*asked.values()]), strict=True))
    outcomes: list[Outcome] = []
    for number, (_, directory) in enumerate(requests):
        found = evaluated.get(number, made[number])
        assert not isinstance(found, tuple), "it was evaluated"
        outcomes.append(_result(found, directory) if isinstance(found, StageResult) else found)
    return outcomes


def _pruned(config: PruneConfig, directory: Path) -> tuple[EvalConfig, Path, str]:
    """Make the pruned dictionary if there is none; returns the evaluation that it is to have."""
    once(Claim(config, directory), _prune)
    after = evaluate.settings_for(directory, config)
    return after, directory, evaluate.default_name(after)


def _result(result: StageResult, directory: Path) -> StageResult:
    result.title = PRUNE
    result.document |= {"command": PRUNE, "facts": read_dictionary_run(directory).run.manifest.facts}
    return result


def _prune(claim: Claim[PruneConfig]) -> FinishedRun:
    config, device = claim.config, build.device(claim.config.device)
    source = read_dictionary_run(config.run)
    dictionary = load_dictionary(source.run, config.verify)
    if config.recenter and dictionary.normalization is not None:
        raise RequestError(
            f"recenter=true: expected a dictionary that writes in the units of activations, found one whose output is "
            f"scaled back for each token ({dictionary.normalization.value}), where one mean error is no bias of its "
            "own; leave recenter out"
        )
    source.run.expect(DICTIONARY_FILE, {"W_enc": "F32 F D", **_added(source.run)}, others=True)
    parent_tensors = source.run.read_tensors(DICTIONARY_FILE, config.verify)
    frequency = _frequencies(config, source, dictionary.n_features)
    kept = _checked(_kept(frequency, config), frequency, dictionary, config)
    pruned = dictionary.keep(kept).to(device)
    if config.recenter:
        pruned = recentered(pruned, _mean_error(pruned, source, config, device))
    if config.finetune_tokens:
        pruned = finetuned(
            pruned,
            trained_with(source.run),
            config.finetune,
            config.finetune_tokens,
            config.finetune_lr,
            device,
            parent_tensors.get(FORBIDDEN),
        )
    in_original = parent_tensors[KEPT][kept] if KEPT in parent_tensors else kept
    card = source.card
    facts = {"tokens": card.tokens, "source": card.source, "width": dictionary.d_out}
    facts |= {"normalization": found.value if (found := dictionary.normalization) else None}
    facts = {name: fact for name, fact in facts.items() if fact is not None}
    facts |= text_facts(text_of(source.run.manifest))
    with claim.open(parents=[source.run]) as claimed:
        if is_trained_here(source.run):
            claimed.write_text(TRAINING_FILE, as_yaml(trained_with(source.run)))
        forbidden = {name: parent_tensors[name] for name in (FORBIDDEN, LOGIT_ROOT) if name in parent_tensors}
        save_dictionary(claimed, pruned, card.header(), extra={KEPT: in_original, **forbidden})
        return claimed.finish(
            **facts,
            killed=dictionary.n_features - pruned.n_features,
            threshold=float(frequency[kept].max()),
            pruned_l0=float(frequency.sum() - frequency[kept].sum()),
            seconds=claim.seconds(),
        )


def _kept(frequency: Float[Tensor, " F"], config: PruneConfig) -> Int[Tensor, " K"]:
    """The features that are not pruned."""
    limits = Limits(
        max_freq=config.max_freq,
        target_l0=config.target_l0,
        top_n=config.top_n,
        min_freq=config.min_freq,
        band=(config.band[0], config.band[1]) if config.band else None,
    )
    kept = kept_features(frequency, limits)
    if config.control is None:
        return kept
    others = control_features(frequency, kept, config.control)
    if others is None:
        there = float(frequency[kept].sum())
        raise RequestError(
            f"control={config.control}: expected others that fire {float(frequency.sum()) - there:.2f} times a token "
            f"in total, as the {len(frequency) - len(kept):,} features do that would be pruned; found {there:.2f}"
        )
    return others


def _added(run: FinishedRun) -> dict[str, str]:
    """The layout of those tensors that not every dictionary has."""
    held = run.read_header(DICTIONARY_FILE).tensors
    return {name: layout for name, layout in _LAYOUTS.items() if name in held}


def _frequencies(config: PruneConfig, source: DictionaryRun, n_features: int) -> Float[Tensor, " F"]:
    """From the evaluation of what is to be pruned, which is made if there is none."""
    before = evaluate.settings_for(source.run.directory, config)
    finished = evaluate.evaluation(source, before, evaluate.default_name(before))
    return evaluate.read_features(finished, n_features)["frequency"]


def _checked(
    kept: Int[Tensor, " K"], frequency: Float[Tensor, " F"], dictionary: Dictionary, config: PruneConfig
) -> Int[Tensor, " K"]:
    """Refuse to prune all; say so where nothing is pruned, or L0 will not fall."""
    most, least = float(frequency.max()), float(frequency.min())
    if not len(kept):
        raise RequestError(
            f"run={config.run}: this would prune all {len(frequency):,} features; expected limits that leave some of "
            f"their frequencies, {least:.2g} to {most:.2g}"
        )
    if len(kept) == len(frequency):
        console.warn(
            f"nothing is pruned: the frequencies of all {len(frequency):,} features, {least:.2g} to {most:.2g}, and "
            f"their L0, {float(frequency.sum()):.1f}, are within the limits"
        )
    elif isinstance(dictionary, TopKDictionary):
        console.warn(
            f"a TopK dictionary fills its support again: {int(dictionary.k)} of the features that are left fire on "
            "each token, so L0 does not fall"
        )
    return kept


def _mean_error(
    dictionary: Dictionary, source: DictionaryRun, config: PruneConfig, device: torch.device
) -> Float[Tensor, " D"]:
    """Mean of x - x̂ over the activations that features are counted on."""
    subject = make_subject(source, None, config.model_rows, device)
    blocks, error = counted_activations(subject, config.features), MeanError()
    with progress(config.features.tokens, "recenter") as advance:
        measure(encoded(dictionary, blocks, subject.columns, advance), error)
    return error.results()
