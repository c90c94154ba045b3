"""What a dictionary is measured on: a language model's activations at one site, or a known truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sae_cli import build
from sae_cli.activations.blocks import ActivationBlock, live_blocks
from sae_cli.activations.non_finite import ELSEWHERE, refused
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.config.data import DataConfig, SyntheticData
from sae_cli.config.hook import Basis
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.errors import JobError
from sae_cli.metrics.directions import NullSpace
from sae_cli.models import LanguageModel, Site
from sae_cli.runs.dictionary_run import DictionaryRun
from sae_cli.text.packing import TokenRows
from sae_cli.text.rows import RowStream


@dataclass(frozen=True)
class ModelSubject:
    """The activations of a language model on some text.

    Attributes:
        model, site: where they are.
        data: the text.
        model_rows: rows a forward pass.
    """

    model: LanguageModel
    site: Site
    data: DataConfig
    model_rows: int

    @cached_property
    def null_space(self) -> NullSpace | None:
        """Of `mlp_act`: what the MLP's output matrix does not carry to the residual stream."""
        if self.site.hook.basis is not Basis.neurons:
            return None
        return NullSpace(self.model.parts.mlp_act_to_resid(self.site.layer).cpu())

    def blocks(self, split: Split) -> Iterator[ActivationBlock]:
        """The activations of one split, each document once."""
        return (block for _, block in self.rows(build.row_stream(self.data, self.model, split)))

    def rows(self, stream: RowStream, skip: int = 0) -> Iterator[tuple[TokenRows, ActivationBlock]]:
        """Rows of text once, but for the first of them, each block with the activations at its counted positions, row
        after row. What is computed does not depend on how many are skipped."""
        for rows in stream.one_epoch(self.model_rows):
            first, skip = skip, max(0, skip - len(rows.tokens))
            if first >= len(rows.tokens):
                continue
            blocks = (each[self.site] for each in live_blocks([rows], self._capture))
            for block in refused(blocks, f"{stream.split.value} activations", ELSEWHERE):
                left = slice(first * (block.n // len(rows.tokens)), None)
                yield rows.select(slice(first, None)), block.select(left)

    def _capture(self, rows: Tensor) -> dict[Site, Tensor]:
        captured = self.model.capture(rows, [self.site])
        return {site: activations.float().cpu() for site, activations in captured.items()}

    def check(self, dictionary: Dictionary) -> None:
        """A `JobError` if the dictionary is for other activations."""
        if dictionary.width != (width := self.model.width(self.site)):
            raise JobError(f"the dictionary has width {dictionary.width}, but {self.site.hook.value} has {width}")


@dataclass(frozen=True)
class SyntheticSubject:
    """Activations with a known truth: there is no language model."""

    truth: SyntheticActivations

    def blocks(self, split: Split) -> Iterator[ActivationBlock]:
        """The activations of one split, without end."""
        return self.truth.blocks(split)

    def check(self, dictionary: Dictionary) -> None:
        """A `JobError` if the dictionary is for other activations."""
        if dictionary.width != self.truth.d:
            raise JobError(f"the dictionary has width {dictionary.width}, but data.d={self.truth.d}")


Subject = ModelSubject | SyntheticSubject


def make_subject(source: DictionaryRun, data: DataConfig | None, model_rows: int, device: torch.device) -> Subject:
    """What a dictionary is measured on, on the data of its training unless other is given."""
    data = source.data(data)
    if isinstance(data, SyntheticData):
        return SyntheticSubject(SyntheticActivations.of(data))
    model = build.language_model(source.model(), data, device)
    return ModelSubject(model, build.site(source.site(), model), data, model_rows)
