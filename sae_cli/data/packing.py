"""Packing tokenised documents into rows of `context` tokens.

A row is `[BOS] t t t SEP t t …`: the documents of a split run on one after another, each followed by
the separator, and every row begins with the BOS token where the policy has one. Attention is not
cut at document borders. A last row that would not be full is left out, so rows have no padding.
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
        separator_id: token after every document, or None for none.
    """

    context: int
    bos_id: int | None
    separator_id: int | None


class TokenRows(NamedTuple):
    """`tokens` int64 [rows, context] and, for each of them, `document` int64 [rows, context] (its id)."""

    tokens: np.ndarray
    document: np.ndarray


class TokenisedDocument(NamedTuple):
    document: int
    tokens: np.ndarray


def pack(documents: Iterable[TokenisedDocument], policy: PackingPolicy, rows: int) -> Iterator[TokenRows]:
    """Blocks of `rows` full rows (fewer in the last block)."""
    body = policy.context - (policy.bos_id is not None)
    tokens, owners, held = [], [], 0
    for document, ids in documents:
        if policy.separator_id is not None:
            ids = np.append(ids, policy.separator_id)
        tokens.append(np.asarray(ids, dtype=np.int64))
        owners.append(np.full(len(ids), document, dtype=np.int64))
        held += len(ids)
        while held >= rows * body:
            flat, flat_owners = np.concatenate(tokens), np.concatenate(owners)
            cut = rows * body
            yield _rows(flat[:cut], flat_owners[:cut], body, policy.bos_id)
            tokens, owners, held = [flat[cut:]], [flat_owners[cut:]], held - cut
    full = held // body * body
    if full:
        yield _rows(np.concatenate(tokens)[:full], np.concatenate(owners)[:full], body, policy.bos_id)


def _rows(tokens: np.ndarray, document: np.ndarray, body: int, bos_id: int | None) -> TokenRows:
    tokens, document = tokens.reshape(-1, body), document.reshape(-1, body)
    if bos_id is None:
        return TokenRows(tokens, document)
    bos = np.full((len(tokens), 1), bos_id, dtype=np.int64)
    return TokenRows(np.hstack([bos, tokens]), np.hstack([document[:, :1], document]))
