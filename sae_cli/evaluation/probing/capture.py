"""What the model and a dictionary make of chosen tokens, or of documents that stand for all of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from sae_cli.activations.ahead import prefetched
from sae_cli.activations.blocks import FIRST_POSITION
from sae_cli.config.probe import Pool
from sae_cli.config.split import Split
from sae_cli.dictionaries.base import Dictionary
from sae_cli.evaluation.probing.text import LabelledRows, Read
from sae_cli.evaluation.subject import ModelSubject
from sae_cli.kernels.codes import Codes
from sae_cli.tensor_types import Float, Tensor
from sae_cli.terminal.progress import progress
from sae_cli.text.packing import TokenRows

FEATURES_AT_ONCE = 2**23
"""Largest feature matrix [n, F] made at once, in elements."""


class Captured(NamedTuple):
    """Of n tokens, or documents.

    Attributes:
        x: what the dictionary reads, float32 [n, D].
        y: what it is to write [n, E]; of an autoencoder x itself.
        y_hat: what it makes of it [n, E].
        starts, columns, values: entries of its features, row after row [n + 1], [entries], [entries].
        n_features: F.
    """

    x: np.ndarray
    y: np.ndarray
    y_hat: np.ndarray
    starts: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    n_features: int

    @classmethod
    def join(cls, parts: list[Captured]) -> Captured:
        """One after the other."""
        x = np.concatenate([each.x for each in parts])
        same = all(each.y is each.x for each in parts)
        ends = np.cumsum([0, *(int(each.starts[-1]) for each in parts)])
        starts = [each.starts[:-1] + end for each, end in zip(parts, ends, strict=False)]
        return cls(
            x=x,
            y=x if same else np.concatenate([each.y for each in parts]),
            y_hat=np.concatenate([each.y_hat for each in parts]),
            starts=np.append(np.concatenate(starts), ends[-1]),
            columns=np.concatenate([each.columns for each in parts]),
            values=np.concatenate([each.values for each in parts]),
            n_features=parts[0].n_features,
        )


@torch.no_grad()
def seen(dictionary: Dictionary, x: Float[Tensor, "N D"], y: Float[Tensor, "N E"]) -> Captured:
    """What a dictionary makes of activations, in bounded memory."""
    at_once = max(1, FEATURES_AT_ONCE // dictionary.n_features)
    codes, written = [], []
    for part in x.to(dictionary.W_dec.device).split(at_once):
        f = dictionary.encode(part)
        codes.append(Codes.of_dense(f))
        written.append(dictionary.decode(f, part).float().cpu())
    joined = Codes.join(codes)
    as_read = x.float().cpu().numpy()
    return Captured(
        x=as_read,
        y=as_read if y is x else y.float().cpu().numpy(),
        y_hat=torch.cat(written).numpy(),
        starts=joined.starts.numpy().astype(np.int64),
        columns=joined.columns.numpy().astype(np.int64),
        values=joined.values.numpy(),
        n_features=joined.n_features,
    )


def capture(read: Read, chosen: np.ndarray, subject: ModelSubject, dictionary: Dictionary) -> Captured:
    """The activations at chosen tokens; the model runs on the rows only that these are in.

    Args:
        read: the text.
        chosen: numbers of tokens in it, ascending [n].
        subject: model and place.
        dictionary: of that place.
    """
    parts = []
    with progress(len(chosen), "activations") as advance:
        for _, at, x, y in _activations(read, chosen, subject):
            parts.append(seen(dictionary, x, y))
            advance(len(at))
    return Captured.join(parts)


def pooled(
    read: Read, chosen: np.ndarray, subject: ModelSubject, dictionary: Dictionary, pool: Pool
) -> tuple[Captured, np.ndarray, np.ndarray]:
    """Documents in the place of their tokens; each is one row.

    Args:
        read: the text.
        chosen: all tokens that are looked at [n].
        subject, dictionary, pool: with `max`, activations and what is made of them are means, as they are with `mean`.

    Returns:
        What is captured, the number of the first token of each document, and of their tokens [documents].
    """
    parts, first, sizes = [], [], []
    with progress(len(chosen), "activations") as advance:
        for row, at, x, y in _activations(read, chosen, subject):
            of_tokens = seen(dictionary, x, y)
            begins = np.flatnonzero(np.diff(row, prepend=-1))
            counts = np.diff(np.append(begins, len(row)))
            parts.append(_pool(of_tokens, begins, counts, pool))
            first.append(at[begins])
            sizes.append(counts)
            advance(len(at))
    return Captured.join(parts), np.concatenate(first), np.concatenate(sizes)


def _pool(tokens: Captured, begins: np.ndarray, counts: np.ndarray, pool: Pool) -> Captured:
    ends = begins + counts
    if pool is Pool.last:
        kept = ends - 1
        x, y_hat = tokens.x[kept], tokens.y_hat[kept]
        y = x if tokens.y is tokens.x else tokens.y[kept]
    else:
        means = [np.add.reduceat(each, begins) / counts[:, None] for each in (tokens.x, tokens.y_hat)]
        x, y_hat = (each.astype(np.float32) for each in means)
        own = tokens.y is tokens.x
        y = x if own else (np.add.reduceat(tokens.y, begins) / counts[:, None]).astype(np.float32)
    row = np.repeat(np.arange(len(tokens.x)), np.diff(tokens.starts))
    document = np.repeat(np.arange(len(begins)), counts)[row]
    columns, values = tokens.columns, tokens.values
    if pool is Pool.last:
        last = np.isin(row, ends - 1)
        document, columns, values = document[last], columns[last], values[last]
    key = document * tokens.n_features + columns
    order = np.argsort(key, kind="stable")
    own, starts = np.unique(key[order], return_index=True)
    if len(own):
        sums = np.add.reduceat(values[order], starts)
        found = (
            sums / counts[own // tokens.n_features] if pool is Pool.mean else np.maximum.reduceat(values[order], starts)
        )
    else:
        found = values[:0]
    of_document = np.bincount(own // tokens.n_features, minlength=len(begins))
    return Captured(
        x, y, y_hat, np.append(0, np.cumsum(of_document)), own % tokens.n_features, found.astype(np.float32),
        tokens.n_features,
    )  # fmt: skip


def _activations(
    read: Read, chosen: np.ndarray, subject: ModelSubject
) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor, Tensor]]:
    """For each block that has chosen tokens: the row of each, its number, and what is read and written there."""
    wanted = list(_needed(read, chosen))
    rows = (each for _, each, _, _ in wanted)
    blocks = prefetched(subject.activations_of(rows, Split.held_out))
    for (_, block), (row, _, place, at) in zip(blocks, wanted, strict=True):
        x, y = subject.columns.pair(block.activations[torch.from_numpy(place)])
        yield row, at, x, y


def _needed(read: Read, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, TokenRows, np.ndarray, np.ndarray]]:
    """For each block the rows that hold chosen tokens: of each token its row, the rows, its place among their counted
    positions, and its number."""
    number = 0
    for block in read.blocks:
        valid = block.valid
        size = int(valid.sum())
        at = chosen[np.searchsorted(chosen, number) : np.searchsorted(chosen, number + size)]
        row, column = (each[at - number] for each in np.nonzero(valid))
        number += size
        if not len(at):
            continue
        kept = np.unique(row)
        longest = _longest(block, kept)
        rows = TokenRows(block.rows.tokens[kept, :longest], block.rows.document[kept, :longest])
        counted = longest - FIRST_POSITION
        yield row, rows, np.searchsorted(kept, row) * counted + column - FIRST_POSITION, at


def _longest(block: LabelledRows, rows: np.ndarray) -> int:
    """Positions of these rows up to the last one that is looked at; those after it are of no account."""
    return int(np.flatnonzero(block.valid[rows].any(axis=0))[-1]) + 1
