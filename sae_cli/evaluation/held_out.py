"""Held-out text as a language model reads it in an evaluation: rows of tokens, and the domain of each token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from math import isfinite
from typing import NamedTuple

import numpy as np
import torch

from sae_cli import build
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.config.data import DataConfig
from sae_cli.config.evaluation import LEAST_LOOKED_AT, LOOKED_AT, EvaluationConfig, Exclude, Sample
from sae_cli.config.split import Split
from sae_cli.errors import JobError
from sae_cli.jobs.shortage import say_if_thinned
from sae_cli.metrics.language_loss import LOGITS_AT_ONCE, LossSums
from sae_cli.metrics.report import DomainsReport
from sae_cli.metrics.row_sums import RowPlaces
from sae_cli.models import LanguageModel
from sae_cli.tensor_types import Bool, Int, Tensor
from sae_cli.terminal.progress import progress
from sae_cli.text.domains import DomainsOf
from sae_cli.text.rows import RowStream
from sae_cli.text.spread import PlacedRows, first, placed, spread

# Largest tensor of logits at all positions of some rows [B, T, V], in elements, where it is made whole.
WHOLE_LOGITS = 2**22

# Bytes of logits, of what is made of them, and of copies on the way, where losses are summed.
LOGITS_MEMORY = 6 * 4 * LOGITS_AT_ONCE

# Rows tokenized at once where they are chosen from a whole text.
_ROWS_READ = 256

NO_DOMAIN = "(none)"
"""Stands for the empty domain where other documents have one."""


class HeldOutRows(NamedTuple):
    """Rows of text.

    Attributes:
        tokens: their tokens.
        counted: positions whose activations are replaced, and whose reconstruction and prediction are counted.
        domains: the number of each token's domain.
        n_bytes: bytes of text that each token stands for.
        places: which rows these are: the document that most of each belongs to, and its number in the text.
    """

    tokens: Int[Tensor, "B T"]
    counted: Bool[Tensor, "B T"]
    domains: Int[Tensor, "B T"]
    n_bytes: Int[Tensor, "B T"]
    places: RowPlaces

    @property
    def text(self) -> tuple[Int[Tensor, "B T"], Int[Tensor, "B T"]]:
        """Tokens, and their bytes."""
        return self.tokens, self.n_bytes


@dataclass(frozen=True)
class HeldOutText:
    """Held-out rows of a text, in the tokens of one model.

    Attributes:
        model: whose tokens.
        data: the text.
        model_rows: most rows a forward pass.
        evaluation: which rows, and how many.
        batch_rows: their number is rounded up to a multiple of this.
    """

    model: LanguageModel
    data: DataConfig
    model_rows: int
    evaluation: EvaluationConfig
    batch_rows: int = 1

    @cached_property
    def _stream(self) -> RowStream:
        stream = build.row_stream(self.data, self.model, Split.held_out)
        stream = replace(stream, corpus=DomainsOf(stream.corpus), counts_bytes=True)
        # Rows that are chosen by hash are the same for dictionaries whose training read the text in another order.
        return replace(stream, seed=0) if self._is_spread else stream

    @property
    def _is_spread(self) -> bool:
        return self.evaluation.sample is Sample.spread

    @property
    def context(self) -> int:
        """Tokens a row."""
        return self._stream.policy.context

    def rows(self, shown: str) -> Iterator[HeldOutRows]:
        """The rows, with a progress bar of this name.

        Raises:
            JobError: there is not one.
        """
        with progress(self.positions_asked, shown) as advance:
            for block in self.blocks():
                yield block
                advance(len(block.tokens) * (self.context - FIRST_POSITION))

    def blocks(self) -> Iterator[HeldOutRows]:
        """The rows, without a bar; errors as `rows`."""
        return map(self._with_domains, self._chosen(self._wanted))

    @property
    def positions_asked(self) -> int:
        """How many positions whole rows hold of those that are asked for."""
        return self._wanted * (self.context - FIRST_POSITION)

    def beginning(self, tokens: int) -> Iterator[HeldOutRows]:
        """The first of the rows, which hold so many positions."""
        for block in first(self._chosen(self._wanted), -(-tokens // (self.context - FIRST_POSITION))):
            yield self._with_domains(block)

    def first_rows(self, rows: int) -> HeldOutRows:
        """So many rows with which the held-out text begins, whichever are chosen later.

        Raises:
            JobError: there is not one.
        """
        found = next(placed(self._stream.one_epoch(rows)), None)
        if found is None:
            raise self._stream.too_little()
        return self._with_domains(found)

    def rows_of_bytes(self, n_bytes: int, shown: str) -> Iterator[HeldOutRows]:
        """As many rows as hold so many bytes of text (rounded up to whole rows), with a progress bar of this name.

        Raises:
            JobError: there is not one.
        """
        left = n_bytes
        most = -(-n_bytes // (self.context - FIRST_POSITION))  # at one byte a token
        with progress(n_bytes, shown, unit="bytes") as advance:
            for block in self._chosen(most):
                so_far = _bytes_of(block).cumsum(0)
                wanted = int((so_far < left).sum()) + 1
                yield self._with_domains(block.select(slice(wanted)))
                advance(min(left, int(so_far[-1])))
                left -= int(so_far[-1])
                if left <= 0:
                    return

    def bytes_read(self) -> int:
        """Bytes of text in all the rows, those at positions outside the mask too."""
        return sum(int(_bytes_of(block).sum()) for block in self._chosen(self._wanted))

    def say_if_short(self, found: int, documents: int) -> None:
        """Say where there are fewer positions than are asked for."""
        limit = self.evaluation.rows_per_document if self._is_spread else None
        say_if_thinned(self.evaluation.tokens, found, documents, limit)

    @property
    def rows_at_once(self) -> int:
        """Rows that the model is given at once: few where its logits come whole."""
        return self.model_rows if self.model.is_known else min(self.model_rows, self.rows_of_logits)

    @property
    def rows_of_logits(self) -> int:
        """Rows whose logits may be in memory at once, at all positions."""
        return max(1, WHOLE_LOGITS // (self.context * self.model.vocab_size))

    @property
    def _wanted(self) -> int:
        """Rows."""
        batches = -(-self.evaluation.tokens // (self.batch_rows * (self.context - FIRST_POSITION)))
        return batches * self.batch_rows

    def _chosen(self, wanted: int) -> Iterator[PlacedRows]:
        """So many rows, as many at once as the model can take."""
        at_once = self.rows_at_once
        blocks = placed(self._stream.one_epoch(at_once))
        if self._is_spread:
            found = self._sample if wanted == self._wanted else self._spread(wanted)
            blocks = (found.select(slice(i, i + at_once)) for i in range(0, len(found.document), at_once))
        some = first(blocks, wanted)
        if (start := next(some, None)) is None:
            raise self._stream.too_little()
        return chain([start], some)

    @cached_property
    def _sample(self) -> PlacedRows:
        return self._spread(self._wanted)

    def _spread(self, wanted: int) -> PlacedRows:
        within = self.evaluation.within or max(LOOKED_AT * self.evaluation.tokens, LEAST_LOOKED_AT)
        rows = max(wanted, within // self.context)
        found = spread(placed(self._stream.one_epoch(_ROWS_READ)), wanted, self.evaluation.rows_per_document, rows)
        if found is None:
            raise self._stream.too_little()
        return found

    def _with_domains(self, block: PlacedRows) -> HeldOutRows:
        assert isinstance(self._stream.corpus, DomainsOf)
        numbers = self._stream.corpus.numbers(block.rows.document)
        assert block.rows.n_bytes is not None, "the stream counts bytes"
        tokens = torch.from_numpy(block.rows.tokens)
        return HeldOutRows(
            tokens=tokens,
            counted=self._counted(tokens),
            domains=torch.from_numpy(numbers),
            n_bytes=torch.from_numpy(block.rows.n_bytes),
            places=RowPlaces(torch.from_numpy(block.document), torch.from_numpy(block.number)),
        )

    def _counted(self, tokens: Int[Tensor, "B T"]) -> Bool[Tensor, "B T"]:
        """Where a row is looked at."""
        counted = torch.isin(tokens, torch.tensor(sorted(self._left_out.values()), dtype=tokens.dtype), invert=True)
        if Exclude.first in self.evaluation.exclude:
            counted[:, :FIRST_POSITION] = False
        return counted

    @cached_property
    def _left_out(self) -> dict[str, int]:
        """The special tokens that are not looked at, where the tokenizer has them: names and ids."""
        asked = [each for each in self.evaluation.exclude if each is not Exclude.first]
        ids = {each.value: getattr(self.model.tokenizer, f"{each.value}_token_id") for each in asked}
        return {name: found for name, found in ids.items() if found is not None}

    def positions(self) -> str:
        """Which positions are looked at, in words."""
        left_out = ["the first of each row"] if Exclude.first in self.evaluation.exclude else []
        left_out += [f"{name} ({self.model.tokenizer.convert_ids_to_tokens(i)})" for name, i in self._left_out.items()]
        return f"all but {', '.join(left_out)}" if left_out else "all"

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


def _bytes_of(block: PlacedRows) -> np.ndarray:
    """Bytes of text of each row."""
    assert block.rows.n_bytes is not None, "the stream counts bytes"
    return block.rows.n_bytes.sum(axis=1)
