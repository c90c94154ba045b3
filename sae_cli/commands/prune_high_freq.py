"""`sae prune-high-freq`: a dictionary without its most, or its least, frequent features, and what that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sae_cli import build
from sae_cli.activations.text_read import text_facts, text_of
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.prune_high_freq import PruneConfig
from sae_cli.config.stored import TRAINING_FILE, as_yaml
from sae_cli.dictionaries.base import Dictionary
from sae_cli.dictionaries.files import DICTIONARY_FILE, load_dictionary, save_dictionary
from sae_cli.dictionaries.topk import TopKDictionary
from sae_cli.documents import Document
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
    (found,) = run_together([(config, directory)])
    if isinstance(found, Exception):
        raise found
    return found


def run_together(requests: Sequence[tuple[PruneConfig, Path]]) -> list[Outcome]:
    """Prune several, and evaluate all; for those of one place and text the model's own work is done once."""
    made = [outcome_of(partial(_begun, *each)) for each in requests]
    begun = {number: each for number, each in enumerate(made) if isinstance(each, Pruning)}
    outcomes: dict[int, Outcome | FinishedRun | None] = {
        number: each for number, each in enumerate(made) if not isinstance(each, Pruning)
    }
    outcomes |= zip(begun, _recentered([*begun.values()]), strict=True)
    for number, each in begun.items():
        if outcomes[number] is None:
            outcomes[number] = outcome_of(each.finish)
    there = [number for number, each in sorted(outcomes.items()) if isinstance(each, FinishedRun)]
    evaluated = evaluate.run_together([_evaluation(*requests[number]) for number in there])
    outcomes |= zip(there, map(_result, evaluated), strict=True)
    return [each for _, each in sorted(outcomes.items()) if isinstance(each, StageResult | Exception)]


def _evaluation(config: PruneConfig, directory: Path) -> tuple[EvalConfig, Path, str]:
    after = evaluate.settings_for(directory, config)
    return after, directory, evaluate.default_name(after)


def _result(found: Outcome) -> Outcome:
    if isinstance(found, StageResult):
        found.title = PRUNE
        found.document |= {"command": PRUNE, "facts": read_dictionary_run(found.directory).run.manifest.facts}
    return found


@dataclass
class Pruning:
    """A dictionary that is about to be left with some of its features.

    Attributes:
        claim: the run that it is to be.
        source: what it is made of.
        frequency: of the features of that.
        kept: the numbers of those that stay.
        pruned: with them alone, on its device.
    """

    claim: Claim[PruneConfig]
    source: DictionaryRun
    frequency: Float[Tensor, " F"]
    kept: Int[Tensor, " K"]
    pruned: Dictionary

    def shared(self) -> str:
        """The same for dictionaries that read the same activations."""
        config, card = self.claim.config, self.source.card
        return repr((card.model, card.wiring, card.data, config.features, config.model_rows, config.device))

    def finish(self) -> FinishedRun:
        """Train a little more, where that is asked for, and leave it in its run."""
        config, source, kept, pruned = self.claim.config, self.source, self.kept, self.pruned
        parent_tensors = source.run.read_tensors(DICTIONARY_FILE, config.verify)
        if config.finetune_tokens:
            settings = (config.finetune, config.finetune_tokens, config.finetune_lr)
            device, forbidden = build.device(config.device), parent_tensors.get(FORBIDDEN)
            pruned = finetuned(pruned, trained_with(source.run), *settings, device, forbidden)
        in_original = parent_tensors[KEPT][kept] if KEPT in parent_tensors else kept
        with self.claim.open(parents=[source.run]) as claimed:
            if is_trained_here(source.run):
                claimed.write_text(TRAINING_FILE, as_yaml(trained_with(source.run)))
            same = {name: parent_tensors[name] for name in (FORBIDDEN, LOGIT_ROOT) if name in parent_tensors}
            save_dictionary(claimed, pruned, source.card.header(), extra={KEPT: in_original, **same})
            return claimed.finish(
                **_inherited(source, pruned),
                killed=len(self.frequency) - pruned.n_features,
                threshold=float(self.frequency[kept].max()),
                pruned_l0=float(self.frequency.sum() - self.frequency[kept].sum()),
                seconds=self.claim.seconds(),
            )


def _inherited(source: DictionaryRun, pruned: Dictionary) -> Document:
    card, normalization = source.card, pruned.normalization
    facts = {
        "tokens": card.tokens,
        "source": card.source,
        "width": pruned.d_out,
        "normalization": normalization.value if normalization else None,
    }
    return {name: fact for name, fact in facts.items() if fact is not None} | text_facts(text_of(source.run.manifest))


def _begun(config: PruneConfig, directory: Path) -> FinishedRun | Pruning:
    """The run if it is there already; else what is to be made, once it is known which features stay."""
    return once(Claim(config, directory), _begin)


def _begin(claim: Claim[PruneConfig]) -> Pruning:
    config = claim.config
    source = read_dictionary_run(config.run)
    dictionary = load_dictionary(source.run, config.verify)
    if config.recenter and dictionary.normalization is not None:
        raise RequestError(
            f"recenter=true: expected a dictionary that writes in the units of activations, found one whose output is "
            f"scaled back for each token ({dictionary.normalization.value}), where one mean error is no bias of its "
            "own; leave recenter out"
        )
    source.run.expect(DICTIONARY_FILE, {"W_enc": "F32 F D", **_added(source.run)}, others=True)
    frequency = _frequencies(config, source, dictionary.n_features)
    kept = _checked(_kept(frequency, config), frequency, dictionary, config)
    return Pruning(claim, source, frequency, kept, dictionary.keep(kept).to(build.device(config.device)))


def _recentered(prunings: Sequence[Pruning]) -> list[Exception | None]:
    """Take the mean error of each into its `b_dec`, where that is asked for; returns what has gone wrong with it."""
    errors: dict[int, Exception] = {}
    groups: dict[str, list[int]] = {}
    for number, each in enumerate(prunings):
        if each.claim.config.recenter:
            groups.setdefault(each.shared(), []).append(number)
    for numbers in groups.values():
        found = outcome_of(partial(_mean_errors, [prunings[number] for number in numbers]))
        for i, number in enumerate(numbers):
            if isinstance(found, Exception):
                errors[number] = found
            else:
                prunings[number].pruned = recentered(prunings[number].pruned, found[i])
    return [errors.get(number) for number in range(len(prunings))]


def _mean_errors(prunings: Sequence[Pruning]) -> list[Float[Tensor, " D"]]:
    """Mean of x - x̂ of each over the activations that features are counted on, from one pass."""
    first = prunings[0]
    config = first.claim.config
    subject = make_subject(first.source, None, config.model_rows, build.device(config.device))
    errors = [MeanError() for _ in prunings]
    with progress(config.features.tokens, "recenter") as advance:
        for block in counted_activations(subject, config.features):
            for each, error in zip(prunings, errors, strict=True):
                measure(encoded(each.pruned, [block], subject.columns), error)
            advance(block.n)
    return [error.results() for error in errors]


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
