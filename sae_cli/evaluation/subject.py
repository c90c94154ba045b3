"""What a dictionary is measured on: a language model's activations at one site, or a known truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, count
from typing import ClassVar

import torch

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION, ActivationBlock, live_blocks
from sae_cli.activations.columns import AUTOENCODER, Columns
from sae_cli.activations.known_truths import truth_of
from sae_cli.activations.non_finite import ELSEWHERE, refused
from sae_cli.activations.truth import CodedBlock, Truth
from sae_cli.config.data import DataConfig, TruthData
from sae_cli.config.hook import Basis, SiteConfig
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.errors import JobError
from sae_cli.metrics.directions import NullSpace
from sae_cli.models import LanguageModel, Site, Wires
from sae_cli.models.targets import MappedTarget, TappedTarget
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.tensor_types import Float, Rows, SiteActivations, Tensor
from sae_cli.text.packing import TokenRows
from sae_cli.text.rows import RowStream
from sae_cli.text.spread import first, placed, regrouped, thinned


@dataclass(frozen=True)
class ModelSubject:
    """The activations of a language model on some text.

    Attributes:
        model, wires: where they are.
        data: the text.
        model_rows: rows a forward pass.
    """

    model: LanguageModel
    wires: Wires
    data: DataConfig
    model_rows: int

    @property
    def site(self) -> Site:
        """What is written there is measured, and replaced."""
        return self.wires.writes

    @property
    def columns(self) -> Columns:
        """Which of the activations are read, and which are to be written."""
        reads, writes = self.wires
        return AUTOENCODER if reads == writes else Columns.side_by_side(self.model.width(reads))

    def at(self, reads: SiteConfig, writes: SiteConfig) -> ModelSubject:
        """The same model and text at another place."""
        return replace(self, wires=Wires(build.site(reads, self.model), build.site(writes, self.model)))

    def of_what_is_written(self) -> ModelSubject:
        """What autoencoders in the place of the dictionary are measured on."""
        return replace(self, wires=Wires.at(self.site))

    @cached_property
    def null_space(self) -> NullSpace | None:
        """Of `mlp_act`: what the MLP's output matrix does not carry to the residual stream."""
        if self.site.hook.basis is not Basis.neurons:
            return None
        return NullSpace(self.model.parts.mlp_act_to_resid(self.site.layer).cpu())

    def rows_at_logits(self, rows: Float[Tensor, "F E"], inverse_scale: float) -> Float[Tensor, "F D"] | None:
        """Rows of a dictionary that is written here after the final norm, whose gain is left out; None where the way
        from what is written to the logits is not known.

        Args:
            rows: what the features write.
            inverse_scale: of the final norm, the mean of 1/σ.
        """
        target = self.model.target(self.site)
        if not isinstance(target, MappedTarget):
            return None
        return target.rows_to_normalized(rows) * (inverse_scale if isinstance(target, TappedTarget) else 1.0)

    def blocks(self, split: Split, per_document: int | None = None) -> Iterator[ActivationBlock]:
        """The activations of one split, each document once; with `per_document` so many rows of each, and as many
        again when all have given theirs."""
        return (block for _, block in self.text_blocks(split, per_document))

    def text_blocks(self, split: Split, per_document: int | None = None) -> Iterator[tuple[TokenRows, ActivationBlock]]:
        """The same with the rows of text that they are of."""
        stream = build.row_stream(self.data, self.model, split)
        rows = stream.one_epoch(self.model_rows)
        if per_document is not None:
            rows = regrouped(self._in_turns(stream, per_document), self.model_rows)
        return self.activations_of(rows, split)

    def _in_turns(self, stream: RowStream, per_document: int) -> Iterator[TokenRows]:
        for turn in count():
            found = thinned(placed(stream.one_epoch(self.model_rows)), per_document, turn)
            if (start := next(found, None)) is None:
                return
            yield from (each.rows for each in chain([start], found))

    def training_rows(self, tokens: int) -> Iterator[TokenRows]:
        """The first rows of the training text, which hold so many positions of the mask."""
        stream = build.row_stream(self.data, self.model, Split.train)
        wanted = -(-tokens // (stream.policy.context - FIRST_POSITION))
        return (each.rows for each in first(placed(stream.one_epoch(self.model_rows)), wanted))

    def activations_of(self, rows: Iterable[TokenRows], split: Split) -> Iterator[tuple[TokenRows, ActivationBlock]]:
        """Rows of text, each block with the activations at its counted positions, row after row."""
        for each in rows:
            blocks = (block[self.wires] for block in live_blocks([each], self._capture))
            for block in refused(blocks, f"{split.value} activations", ELSEWHERE):
                yield each, block

    def rows(self, stream: RowStream, skip: int = 0) -> Iterator[tuple[TokenRows, ActivationBlock]]:
        """Rows of text once, but for the first of them, each block with the activations at its counted positions, row
        after row. What is computed does not depend on how many are skipped."""
        for rows in stream.one_epoch(self.model_rows):
            begin, skip = skip, max(0, skip - len(rows.tokens))
            if begin >= len(rows.tokens):
                continue
            for _, block in self.activations_of([rows], stream.split):
                left = slice(begin * (block.n // len(rows.tokens)), None)
                yield rows.select(slice(begin, None)), block.select(left)

    def _capture(self, rows: Rows) -> dict[Wires, SiteActivations]:
        captured = self.model.capture(rows, self.wires).values()  # of an autoencoder one
        return {self.wires: torch.cat([activations.float().cpu() for activations in captured], dim=-1)}

    def check(self, dictionary: Dictionary) -> None:
        """A `JobError` if the dictionary is for other activations."""
        ends = (("reads", self.wires.reads, dictionary.d_in), ("writes", self.wires.writes, dictionary.d_out))
        for what, site, found in ends:
            if found != (width := self.model.width(site)):
                raise JobError(
                    f"the dictionary {what} activations of width {found}, but {site.label} has width {width}"
                )


@dataclass(frozen=True)
class SyntheticSubject:
    """Activations with a known truth: there is no language model.

    Attributes:
        truth: what they are made of.
        called: what their source is called in messages.
    """

    truth: Truth
    called: str
    columns: ClassVar[Columns] = AUTOENCODER

    def blocks(self, split: Split, per_document: int | None = None) -> Iterator[ActivationBlock]:
        """The activations of one split, without end; there are no documents."""
        return self.truth.blocks(split)

    def coded_blocks(self, split: Split, n: int) -> Iterator[CodedBlock]:
        """The first n activations of one split, with their true features."""
        return self.truth.coded_blocks(split, n)

    def of_what_is_written(self) -> SyntheticSubject:
        """What autoencoders in the place of the dictionary are measured on: the same."""
        return self

    def check(self, dictionary: Dictionary) -> None:
        """A `JobError` if the dictionary is for other activations."""
        if (found := dictionary.d_in) != self.truth.d:
            raise JobError(f"the dictionary reads activations of width {found}, but data.d={self.truth.d}")


Subject = ModelSubject | SyntheticSubject


def make_subject(source: DictionaryRun, data: DataConfig | None, model_rows: int, device: torch.device) -> Subject:
    """What a dictionary is measured on, on the data of its training unless other is given."""
    data = source.data(data)
    if isinstance(data, TruthData):
        return SyntheticSubject(truth_of(data), data.called)
    model = build.language_model(source.model(), data, device, source.places())
    reads, writes = (build.site(each, model) for each in source.places())
    return ModelSubject(model, Wires(reads, writes), data, model_rows)
