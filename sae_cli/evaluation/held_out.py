"""Held-out text as a language model reads it in an evaluation: rows of tokens, and the domain of each token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from typing import NamedTuple

import numpy as np
import torch

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.config.data import DataConfig
from sae_cli.config.split import Split
from sae_cli.errors import JobError
from sae_cli.metrics.language_loss import LossSums
from sae_cli.metrics.report import DomainsReport
from sae_cli.models import LanguageModel
from sae_cli.tensor_types import Int, Tensor
from sae_cli.terminal.progress import progress
from sae_cli.text.domains import DomainsOf
from sae_cli.text.packing import TokenRows
from sae_cli.text.rows import RowStream

# Largest logits tensor [B, T, V] made at once, in elements.
LOGITS_AT_ONCE = 2**22

NO_DOMAIN = "(none)"
"""Stands for the empty domain where other documents have one."""


class HeldOutRows(NamedTuple):
    """Rows of tokens, the number of each one's domain, and the bytes of text that it stands for."""

    tokens: Int[Tensor, "B T"]
    domains: Int[Tensor, "B T"]
    n_bytes: Int[Tensor, "B T"]

    @property
    def text(self) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Tokens, and their bytes."""
        return self.tokens, self.n_bytes


@dataclass(frozen=True)
class HeldOutText:
    """The first held-out rows of a text, in the tokens of one model.

    Attributes:
        model: whose tokens.
        data: the text.
        model_rows: most rows a forward pass.
        tokens: evaluated positions (rounded up to whole rows; fewer where the text ends).
    """

    model: LanguageModel
    data: DataConfig
    model_rows: int
    tokens: int

    @cached_property
    def _stream(self) -> RowStream:
        stream = build.row_stream(self.data, self.model, Split.held_out)
        return replace(stream, corpus=DomainsOf(stream.corpus), counts_bytes=True)

    @property
    def context(self) -> int:
        """Tokens a row."""
        return self._stream.policy.context

    def rows(self, shown: str) -> Iterator[HeldOutRows]:
        """The rows, with a progress bar of this name.

        Raises:
            JobError: there is not one.
        """
        counted = self.context - FIRST_POSITION
        wanted = -(-self.tokens // counted)
        with progress(wanted * counted, shown) as advance:
            for block in _first_rows(self._some_blocks(), wanted):
                yield self._with_domains(block)
                advance(len(block.tokens) * counted)

    def rows_of_bytes(self, n_bytes: int, shown: str) -> Iterator[HeldOutRows]:
        """As many rows as hold so many bytes of text (rounded up to whole rows), with a progress bar of this name.

        Raises:
            JobError: there is not one.
        """
        left = n_bytes
        with progress(n_bytes, shown, unit="bytes") as advance:
            for block in self._some_blocks():
                so_far = _bytes_of(block).cumsum(0)
                wanted = int((so_far < left).sum()) + 1
                yield self._with_domains(block.select(slice(wanted)))
                advance(min(left, int(so_far[-1])))
                left -= int(so_far[-1])
                if left <= 0:
                    return

    def bytes_read(self) -> int:
        """Bytes of text in all the rows, those at positions outside the mask too."""
        wanted = -(-self.tokens // (self.context - FIRST_POSITION))
        return sum(int(_bytes_of(block).sum()) for block in _first_rows(self._blocks(), wanted))

    def _some_blocks(self) -> Iterator[TokenRows]:
        blocks = self._blocks()
        first = next(blocks, None)
        if first is None:
            raise self._stream.too_little()
        yield first
        yield from blocks

    def _blocks(self) -> Iterator[TokenRows]:
        """All rows of the text, so many at once as the model can take."""
        at_once = LOGITS_AT_ONCE // (self.context * self.model.vocab_size)
        return self._stream.one_epoch(max(1, min(self.model_rows, at_once)))

    def _with_domains(self, block: TokenRows) -> HeldOutRows:
        assert isinstance(self._stream.corpus, DomainsOf)
        numbers = self._stream.corpus.numbers(block.document)
        assert block.n_bytes is not None, "the stream counts bytes"
        return HeldOutRows(torch.from_numpy(block.tokens), torch.from_numpy(numbers), torch.from_numpy(block.n_bytes))

    def domain_results(self, losses: LossSums) -> DomainsReport:
        """Under `domains` the figures of each by its name, if there is more than one."""
        assert isinstance(self._stream.corpus, DomainsOf)
        names = self._stream.corpus.names
        if len([number for number in losses.by_domain if names[number]]) < 2:
            return {}
        return {"domains": {names[n] or NO_DOMAIN: found for n, found in losses.domain_results().items()}}


def check_losses(losses: LossSums, what: str) -> None:
    """See that the losses that were summed are finite.

    Raises:
        JobError: one is not: the logits of the model were not, or those with something in the place of activations.
    """
    broken = [name for name, total in zip(losses.columns, losses.total.tolist(), strict=True) if not isfinite(total)]
    if broken:
        raise JobError(
            f"losses of {what} on held-out text: expected finite numbers, found NaN or infinity in "
            f"{', '.join(broken)}; look at the model's weights and model.dtype, or measure on other text with data="
        )


def _bytes_of(block: TokenRows) -> np.ndarray:
    """Bytes of text of each row."""
    assert block.n_bytes is not None, "the stream counts bytes"
    return block.n_bytes.sum(axis=1)


def _first_rows(blocks: Iterator[TokenRows], n: int) -> Iterator[TokenRows]:
    for block in blocks:
        if n <= 0:
            return
        yield block.select(slice(n))
        n -= len(block.tokens)
