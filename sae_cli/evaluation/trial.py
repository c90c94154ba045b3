"""How long a measurement will take: that of a few rows of text, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.encode import encoded, measure
from sae_cli.evaluation.held_out import HeldOutText
from sae_cli.evaluation.splice import CleanRuns, Splicer
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.metrics.code_length import LevelCounts
from sae_cli.metrics.features import FeatureSums
from sae_cli.terminal import console
from sae_cli.text.packing import TokenRows

POSITIONS = 1024
"""That are timed, in whole rows."""
WORTH_TIMING = 20_000
"""Positions of a measurement of which it is said before how long it will take."""
_SLOW = 1.0
"""Seconds after which what is done for the first time only does not count any more."""


class Rates(NamedTuple):
    """Seconds a position: of reconstruction and losses, and of what is said of features."""

    losses: float
    features: float


class Trial:
    """Rows on which dictionaries of one place are timed; the model's own passes count for the first of them.

    Args:
        subject: whose text and activations.
        text: the held-out rows.
    """

    def __init__(self, subject: ModelSubject, text: HeldOutText) -> None:
        self._subject, self._rows = subject, text.first_rows(max(1, POSITIONS // text.context))
        self._clean: CleanRuns | None = None
        self._block: ActivationBlock | None = None

    @torch.no_grad()
    def rates(self, dictionary: Dictionary) -> Rates:
        """Of one dictionary, beside those before it."""
        clean, block = self._clean, self._block
        kept = CleanRuns()

        def losses() -> None:
            nonlocal kept
            kept = clean or CleanRuns()
            subject = self._subject
            Splicer(subject.model, subject.wires, dictionary, subject.null_space, clean=kept).add(self._rows)

        def features() -> None:
            self._block = block or self._captured()
            n = dictionary.n_features
            measure(
                encoded(dictionary, [self._block], self._subject.columns), FeatureSums.empty(n), LevelCounts(n, 1.0)
            )

        seconds = _timed(losses), _timed(features)
        self._clean = kept
        assert self._block is not None
        return Rates(seconds[0] / self._block.n, seconds[1] / self._block.n)

    def _captured(self) -> ActivationBlock:
        rows = TokenRows(self._rows.tokens.numpy(), self._rows.domains.numpy())
        ((_, block),) = self._subject.activations_of([rows], Split.held_out)
        return block


def fitted(
    minutes: float, seconds: float, evaluation: EvaluationConfig, features: FeaturePassConfig
) -> tuple[EvaluationConfig, FeaturePassConfig]:
    """As much of what is asked for as these minutes have room for, in proportion; it is said.

    Args:
        minutes: that there are.
        seconds: that all of it would take.
        evaluation: what is asked for.
        features: the same.
    """
    share = min(1.0, 60 * minutes / seconds)
    tokens, of_features = (max(1, int(share * each.tokens)) for each in (evaluation, features))
    console.log(
        f"eval.minutes={minutes:g}: {tokens:,} of {evaluation.tokens:,} held-out tokens, and {of_features:,} of "
        f"{features.tokens:,} for features; with fewer tokens intervals are wider"
    )
    return evaluation.of_tokens(tokens), replace(features, tokens=of_features)


def _timed(work: Callable[[], None]) -> float:
    """Seconds; where that is short, of the second time."""
    for _ in range(2):
        started = time.monotonic()
        work()
        if (seconds := time.monotonic() - started) > _SLOW:
            break
    return seconds
