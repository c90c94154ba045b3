"""Packing tokenized documents into rows of `context` tokens.

A row is `[BOS] t t t SEP t t …`: the documents of a split run on one after another, each followed by the
separator, and every row begins with the BOS token, where the policy has them. Attention is not cut at
document borders. A last row that would not be full is left out, so rows have no padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class PackingPolicy:
    """How documents become rows; written into the manifest. An id of 0 is an id like any other.

    Attributes:
        context: tokens a row, the BOS included.
        bos_id: token at the start of every row, or None for none.
        separator_ids: tokens after every document; none where it is empty.
    """

    context: int
    bos_id: int | None
    separator_ids: tuple[int, ...] = ()


class TokenRows(NamedTuple):
    """`tokens` int64 [rows, context] and, for each of them, `document` int64 [rows, context] (its id) and, where they
    were counted, `n_bytes` int64 [rows, context]: of the text that it stands for, 0 for a BOS and a separator."""

    tokens: np.ndarray
    document: np.ndarray
    n_bytes: np.ndarray | None = None

    def select(self, rows: slice | np.ndarray) -> TokenRows:
        """Some of the rows: a part of them, or those of these indices in this order."""
        n_bytes = None if self.n_bytes is None else self.n_bytes[rows]
        return TokenRows(self.tokens[rows], self.document[rows], n_bytes)


class TokenizedDocument(NamedTuple):
    """The id of a document, its tokens [n] and, where they were counted, the bytes of text of each [n]."""

    document: int
    tokens: np.ndarray
    n_bytes: np.ndarray | None = None


def pack(documents: Iterable[TokenizedDocument], policy: PackingPolicy, rows: int) -> Iterator[TokenRows]:
    """Blocks of `rows` full rows (fewer in the last block)."""
    body = policy.context - (policy.bos_id is not None)
    parts, held = [], 0
    for each in documents:
        parts.append(_columns(each, policy))
        held += parts[-1].shape[1]
        while held >= rows * body:
            flat, cut = np.concatenate(parts, axis=1), rows * body
            yield _rows(flat[:, :cut], body, policy.bos_id)
            parts, held = [flat[:, cut:]], held - cut
    full = held // body * body
    if full:
        yield _rows(np.concatenate(parts, axis=1)[:, :full], body, policy.bos_id)


def _columns(each: TokenizedDocument, policy: PackingPolicy) -> np.ndarray:
    """A document with its separator: tokens, owners and, where they were counted, bytes; int64 [2 or 3, n]."""
    ids = np.concatenate([each.tokens, policy.separator_ids]).astype(np.int64)
    columns = [ids, np.full(len(ids), each.document, dtype=np.int64)]
    if each.n_bytes is not None:
        columns.append(np.pad(each.n_bytes, (0, len(ids) - len(each.n_bytes))))
    return np.stack(columns)


def _rows(columns: np.ndarray, body: int, bos_id: int | None) -> TokenRows:
    tokens, document, *n_bytes = (each.reshape(-1, body) for each in columns)
    if bos_id is None:
        return TokenRows(tokens, document, *n_bytes)
    bos, nothing = (np.full((len(tokens), 1), value, dtype=np.int64) for value in (bos_id, 0))
    return TokenRows(
        np.hstack([bos, tokens]),
        np.hstack([document[:, :1], document]),
        *(np.hstack([nothing, each]) for each in n_bytes),
    )
