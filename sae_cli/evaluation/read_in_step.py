"""What the measurements of dictionaries of one place read: rows of text, activations, and what the model makes of them
without a dictionary. Each is made once for all measurements that go in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import islice
from typing import NamedTuple, TypeVar

from sae_cli.activations.blocks import ActivationBlock, take
from sae_cli.activations.sharing import SharedStream
from sae_cli.config.evaluation import EvaluationConfig, FeaturePassConfig
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.code_step import TOKENS as TRIED_ON
from sae_cli.evaluation.held_out import HeldOutRows, HeldOutText
from sae_cli.evaluation.splice import CleanRuns
from sae_cli.evaluation.subject import ModelSubject, Subject
from sae_cli.evaluation.trial import WORTH_TIMING, Trial, fitted

Item = TypeVar("Item")


class Reader(NamedTuple):
    """What one measurement reads, each to its end.

    Attributes:
        beginning: the first of the held-out rows; of a known truth nothing.
        rows: the held-out rows; of a known truth nothing.
        activations: that features are counted on.
        clean: the runs of the model that are the same for every dictionary.
    """

    beginning: Iterator[HeldOutRows]
    rows: Iterator[HeldOutRows]
    activations: Iterator[ActivationBlock]
    clean: CleanRuns


class ReadInStep:
    """Of one subject; make all readers before one of them is read.

    Args:
        subject: whose text and activations.
        evaluation: which held-out rows.
        features: which activations features are counted on.
        text: the held-out rows, where they have been chosen already.

    Attributes:
        subject, evaluation, features: see above.
        text: the held-out rows; None of a known truth.
    """

    def __init__(
        self,
        subject: Subject,
        evaluation: EvaluationConfig,
        features: FeaturePassConfig,
        text: HeldOutText | None = None,
    ) -> None:
        self.subject, self.evaluation, self.features = subject, evaluation, features
        if text is None and isinstance(subject, ModelSubject):
            text = HeldOutText(subject.model, subject.data, subject.model_rows, evaluation)
        self.text = text
        self._beginning = _shared(lambda: text.beginning(self.tried_on) if text else iter(()))
        self._rows = _shared(lambda: text.blocks() if text else iter(()))
        self._activations = _shared(lambda: counted_activations(subject, features))
        self._clean = CleanRuns()

    def within(self, minutes: float, dictionary: Dictionary) -> ReadInStep:
        """So much of it that a dictionary like this one takes these minutes, if all would take longer.

        Raises:
            RequestError: the model does not predict the next token.
        """
        assert isinstance(self.subject, ModelSubject), "it was refused of a known truth"
        self.subject.model.check_predicts("eval.minutes")
        seconds = self._seconds(Trial(self.subject, self._held_out), dictionary)
        return ReadInStep(self.subject, *fitted(minutes, seconds, self.evaluation, self.features))

    def seconds(self, dictionary: Dictionary) -> float:
        """How long one dictionary takes, beside those that were asked about before; 0 where that is not known, or not
        worth finding out: of a known truth, of a model that does not predict, of little text."""
        trial = self._trial if self.tokens >= WORTH_TIMING else None
        return self._seconds(trial, dictionary) if trial else 0.0

    @cached_property
    def _trial(self) -> Trial | None:
        if isinstance(self.subject, ModelSubject) and self.subject.model.predicts:
            return Trial(self.subject, self._held_out)
        return None

    @property
    def _held_out(self) -> HeldOutText:
        assert self.text is not None, "of a language model"
        return self.text

    def _seconds(self, trial: Trial, dictionary: Dictionary) -> float:
        rates = trial.rates(dictionary)
        return (self.tokens - self.features.tokens) * rates.losses + self.features.tokens * rates.features

    def reader(self) -> Reader:
        streams = (self._beginning.reader(), self._rows.reader(), self._activations.reader())
        return Reader(*streams, self._clean)

    def again(self, subject: Subject) -> ReadInStep:
        """The same rows, read from their beginning once more, of another place."""
        return ReadInStep(subject, self.evaluation, self.features, self.text)

    @property
    def tried_on(self) -> int:
        """Positions on which it is tried how coarsely a code may be written: an eighth of the text says it well
        enough."""
        return min(TRIED_ON, self.evaluation.tokens // 8 + 1)

    @property
    def tokens(self) -> int:
        """Positions that one dictionary is run on, from the first to the last."""
        if self.text is None:
            return self.features.tokens
        tried = self.tried_on if self.text.model.predicts else 0
        return tried + self.features.tokens + self.text.positions_asked


def counted_activations(subject: Subject, features: FeaturePassConfig) -> Iterator[ActivationBlock]:
    """The activations that features are counted on."""
    return take(subject.blocks(features.split, features.rows_per_document), features.tokens)


def _shared(make: Callable[[], Iterator[Item]]) -> SharedStream[Item]:
    return SharedStream(lambda first: islice(make(), first, None))
