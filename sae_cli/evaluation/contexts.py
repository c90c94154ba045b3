"""Contexts of features: one pass over rows of text, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from sae_cli import build
from sae_cli.activations.ahead import prefetched
from sae_cli.activations.blocks import FIRST_POSITION, ActivationBlock
from sae_cli.activations.harvested import harvested_rows
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.evaluation import ContextsConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.encode import coded_rows, first_rows
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.metrics.contexts import NO_DOCUMENT, CodedRows, ContextCollector, ContextShape
from sae_cli.tensor_types import Int, Tensor
from sae_cli.terminal.progress import progress
from sae_cli.text.document_keys import DocumentKeys
from sae_cli.text.packing import TokenRows
from sae_cli.text.rows import RowStream

FEATURES_AT_ONCE = 2**23
"""Largest feature matrix [n, F] made at once, in elements."""

_KEYS_HELD = 10_000


class Contexts(NamedTuple):
    """What a pass has found.

    Attributes:
        tensors: of `contexts.safetensors`.
        documents: keys of the documents in them, by id.
        tokens: positions looked at.
        context: tokens in a row of text.
        histograms: of the activations of each feature, of `histograms.safetensors`.
    """

    tensors: dict[str, Tensor]
    documents: dict[int, str]
    tokens: int
    context: int
    histograms: dict[str, Tensor]


@dataclass(frozen=True)
class ContextPass:
    """A pass over the text of one split.

    Held at once are the contexts (`ContextShape.bytes_a_feature`), `FEATURES_AT_ONCE` activations of four bytes, and
    the entries of so many rows of text as make that number, at least one: with 32,768 features and rows of 1,024
    tokens at most 2²⁵ of eight bytes.

    Attributes:
        subject: model, site and text.
        split: of the text.
        config: how much is read and kept.
        harvest: of the beginning of this text, read instead of running the model.
    """

    subject: ModelSubject
    split: Split
    config: ContextsConfig
    harvest: FinishedRun | None = None

    @property
    def shape(self) -> ContextShape:
        return ContextShape(self.config.top, self.config.bands, self.config.per_band, self.config.window)

    @torch.no_grad()
    def of(self, dictionary: Dictionary, features: Int[Tensor, " C"]) -> Contexts:
        """The contexts of these features.

        Raises:
            JobError: there is not a row of text, or the model's activations are not finite.
        """
        stream = build.row_stream(self.subject.data, self.subject.model, self.split)
        documents = DocumentKeys(stream.corpus)
        stream, context = replace(stream, corpus=documents), stream.policy.context
        collector = ContextCollector(
            features, dictionary.n_features, context, FIRST_POSITION, self.shape, self.config.seed
        )
        most_keys = _KEYS_HELD
        wanted = -(-self.config.tokens // (context - FIRST_POSITION))
        with progress(wanted * (context - FIRST_POSITION), "contexts") as advance:
            for rows, block in prefetched(first_rows(self._rows(stream), wanted)):
                for part, codes in coded_rows(dictionary, rows, block, self.subject.columns, FEATURES_AT_ONCE):
                    tokens, document = torch.from_numpy(part.tokens), torch.from_numpy(part.document)
                    collector.add(CodedRows(codes, tokens, document))
                if len(documents.keys) > most_keys:
                    documents.forget_before(int(rows.document[0, 0]), but=collector.documents)
                    most_keys = _KEYS_HELD + 2 * len(documents.keys)
                advance(block.n)
        if not collector.tokens:
            raise stream.too_little()
        held = collector.results()
        shown = set(held["document"].unique().tolist()) - {NO_DOCUMENT}
        keys = documents.keys_of(shown, self.split, stream.seed)
        return Contexts(held, keys, collector.tokens, context, collector.histograms())

    def _rows(self, stream: RowStream) -> Iterator[tuple[TokenRows, ActivationBlock]]:
        """Rows of text once: those of the harvest, then those that the model reads now."""
        skip = 0
        if self.harvest is not None:
            for rows, block in harvested_rows(self.harvest, self.subject.model_rows):
                yield rows, block
                skip += len(rows.tokens)
        yield from self.subject.rows(stream, skip)
