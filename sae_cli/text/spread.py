"""Which rows of a text are measured: a few of every document, so that figures are of the text and not of some files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from sae_cli.text.packing import TokenRows


class PlacedRows(NamedTuple):
    """Rows of a text, and where they are from.

    Attributes:
        rows: of tokens.
        document: id of the document that most of a row belongs to, int64 [R].
        number: of the row in the text, int64 [R].
    """

    rows: TokenRows
    document: np.ndarray
    number: np.ndarray

    def select(self, rows: slice | np.ndarray) -> PlacedRows:
        """Some of the rows: a part of them, or those of these indices in this order."""
        return PlacedRows(self.rows.select(rows), self.document[rows], self.number[rows])


def placed(blocks: Iterable[TokenRows]) -> Iterator[PlacedRows]:
    """Rows with their places; the first has the number 0."""
    seen = 0
    for block in blocks:
        yield PlacedRows(block, main_document(block.document), np.arange(seen, seen := seen + len(block.tokens)))


def first(blocks: Iterable[PlacedRows], wanted: int) -> Iterator[PlacedRows]:
    """The first rows of a text."""
    for block in blocks:
        if wanted <= 0:
            return
        yield block.select(slice(wanted))
        wanted -= len(block.document)


def thinned(blocks: Iterable[PlacedRows], per_document: int, turn: int = 0) -> Iterator[PlacedRows]:
    """So many rows of each document, in the order of the text; which ones, their hashes say.

    Args:
        blocks: in which the rows of a document follow one another.
        per_document: how many, at most.
        turn: 0 for those with the lowest hashes, 1 for the next ones, and so on.
    """
    held: PlacedRows | None = None
    for block in blocks:
        together = block if held is None else join([held, block])
        last = together.document == together.document[-1]
        yield from _of_turn(together.select(~last), per_document, turn)
        held = together.select(last)
        held = held.select(_rank(held) < per_document * (turn + 1))
    if held is not None:
        yield from _of_turn(held, per_document, turn)


def _of_turn(rows: PlacedRows, per_document: int, turn: int) -> Iterator[PlacedRows]:
    if len((chosen := rows.select(_rank(rows) // per_document == turn)).document):
        yield chosen


def spread(blocks: Iterable[PlacedRows], wanted: int, per_document: int | None, within: int) -> PlacedRows | None:
    """A row of every document, documents in the order of their hashes, then a second of each, until there are enough.

    At most so many of each: errors over documents hold then, and not where some documents are far longer than others.
    Memory does not grow with the text: what cannot be among them any more is forgotten.

    Args:
        blocks: a text.
        wanted: rows.
        per_document: most of a document, those with the lowest hashes; None for all of them.
        within: rows of the text that are looked at, from its start.

    Returns:
        The rows in this order, so that fewer of them are its beginning; None without any.
    """
    kept: PlacedRows | None = None
    for block in first(blocks, within):
        together = block if kept is None else join([kept, block])
        rank = _rank(together)
        # A row of a later block can only move others of its document back: what is left out now stays out.
        allowed = together.select(rank < per_document) if per_document else together
        rank = rank[rank < per_document] if per_document else rank
        kept = allowed.select(np.lexsort((hashed(allowed.document), rank))[:wanted])
    return kept


def regrouped(blocks: Iterable[TokenRows], rows: int) -> Iterator[TokenRows]:
    """The same rows, so many at once; fewer in the last block."""
    held: list[TokenRows] = []
    for block in blocks:
        held.append(block)
        while sum(len(each.tokens) for each in held) >= rows:
            whole = _join(held)
            yield whole.select(slice(rows))
            held = [whole.select(slice(rows, None))]
    if (rest := _join(held) if held else None) is not None and len(rest.tokens):
        yield rest


def join(parts: list[PlacedRows]) -> PlacedRows:
    """The rows of all parts."""
    document, number = (np.concatenate(each) for each in ([p.document for p in parts], [p.number for p in parts]))
    return PlacedRows(_join([part.rows for part in parts]), document, number)


def _join(parts: list[TokenRows]) -> TokenRows:
    tokens, document = (np.concatenate(each) for each in ([p.tokens for p in parts], [p.document for p in parts]))
    n_bytes = [part.n_bytes for part in parts if part.n_bytes is not None]
    return TokenRows(tokens, document, np.concatenate(n_bytes) if n_bytes else None)


def main_document(documents: np.ndarray) -> np.ndarray:
    """The document that most of each row [R, T] belongs to, the first of several; int64 [R]."""
    found = documents[:, 0].copy()
    for row in (documents != documents[:, :1]).any(axis=1).nonzero()[0]:
        ids, starts, counts = np.unique(documents[row], return_index=True, return_counts=True)
        found[row] = ids[np.lexsort((starts, -counts))[0]]
    return found


def hashed(numbers: np.ndarray) -> np.ndarray:
    """A hash of each number, uint64 (the finalizer of splitmix64)."""
    x = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _rank(rows: PlacedRows) -> np.ndarray:
    """The place of each row among those of its document, by a hash of document and number; int64 [R]."""
    order = np.lexsort((hashed(rows.document.astype(np.uint64) ^ hashed(rows.number)), rows.document))
    owners = rows.document[order]
    starts = np.r_[True, owners[1:] != owners[:-1]][: len(owners)]
    places = np.arange(len(order))
    rank = np.empty_like(places)
    rank[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    return rank
