"""The pass of a dictionary over activations: encode, decode, and add what comes out to every metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.columns import AUTOENCODER, Columns
from sae_cli.dictionaries.base import Dictionary
from sae_cli.kernels.codes import Codes
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.metric import Metric
from sae_cli.text.packing import TokenRows

FEATURES_AT_ONCE = 2**24
"""Largest feature matrix [n, F] made at once, in elements."""


@torch.no_grad()
def measure(seen: Iterable[Encoded], *metrics: Metric[Encoded, object]) -> None:
    """Add all that a pass sees to each of the metrics."""
    for each in seen:
        for metric in metrics:
            metric.add(each)


def encoded(
    dictionary: Dictionary,
    blocks: Iterable[ActivationBlock],
    columns: Columns = AUTOENCODER,
    advance: Callable[[int], None] = lambda n: None,
) -> Iterator[Encoded]:
    """Activations as the dictionary sees them, in bounded memory.

    Args:
        dictionary: that reads them, on its own device.
        blocks: the activations.
        columns: which of them are read, and which are to be written.
        advance: told how many activations are done.
    """
    at_once = max(1, FEATURES_AT_ONCE // dictionary.n_features)
    for block in blocks:
        for part in (block.select(slice(i, i + at_once)) for i in range(0, block.n, at_once)):
            pair = columns.pair(part.activations.to(dictionary.W_dec.device))
            yield Encoded(dictionary, *pair, tokens=part.tokens)
        advance(block.n)


def first_rows(
    blocks: Iterator[tuple[TokenRows, ActivationBlock]], n: int
) -> Iterator[tuple[TokenRows, ActivationBlock]]:
    """The first n rows of text, with their activations."""
    for rows, block in blocks:
        counted = block.n // len(rows.tokens)
        yield rows.select(slice(n)), block.select(slice(n * counted))
        n -= len(rows.tokens)
        if n <= 0:
            return


def coded_rows(
    dictionary: Dictionary, rows: TokenRows, block: ActivationBlock, columns: Columns, features_at_once: int
) -> Iterator[tuple[TokenRows, Codes]]:
    """Some rows of text after the others, with the entries of all their counted positions.

    Args:
        dictionary: that reads them, on its own device.
        rows: of text.
        block: the activations at their counted positions, row after row.
        columns: which of them are read.
        features_at_once: largest feature matrix [n, F] made at once, in elements.
    """
    counted = block.n // len(rows.tokens)
    tokens_at_once = max(1, features_at_once // dictionary.n_features)
    rows_at_once = max(1, tokens_at_once // counted)
    for i in range(0, len(rows.tokens), rows_at_once):
        carried = block.activations[i * counted : (i + rows_at_once) * counted].to(dictionary.W_dec.device)
        x, _ = columns.pair(carried)
        codes = Codes.join([dictionary.codes(part) for part in x.split(tokens_at_once)])
        yield rows.select(slice(i, i + rows_at_once)), codes
