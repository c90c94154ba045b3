"""Documents: what a corpus is made of, how they are split and in which order they are read.

A document's *key* (a path, or a source and an index) decides everything about it: its identity in
artifacts (`document_id`), its side of the train/held-out split, and its place in a seeded order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from sae_cli.config.split import Split


class Document(NamedTuple):
    """A document: its key, its text, its domain (empty for none), and its tokens where these were given in place of a
    text."""

    key: str
    text: str
    domain: str
    tokens: Sequence[int] | None = None


@runtime_checkable
class Corpus(Protocol):
    """A source of documents, re-readable from the start."""

    def documents(self, split: Split, seed: int, epoch: int = 0) -> Iterator[Document]:
        """The documents of one split, in an order that is a function of `seed` and `epoch`."""
        ...


def document_id(key: str) -> int:
    """A 63-bit identity that depends on the key alone (not on the order or the number of ranks)."""
    return _digest(key) >> 1


def is_held_out(key: str, fraction: float) -> bool:
    """Whether the document falls among the held-out `fraction`; a smaller fraction is a subset."""
    return _digest("split", key) < fraction * 2**64


def of_split(keys: Iterable[str], split: Split, held_out_fraction: float) -> list[str]:
    """The keys on one side of the split, in the order given."""
    wanted = split is Split.held_out
    return [key for key in keys if is_held_out(key, held_out_fraction) == wanted]


def seeded_order(keys: Iterable[str], seed: int, epoch: int) -> list[str]:
    """A permutation of the keys that depends on the set of keys, the seed and the epoch only."""
    return sorted(keys, key=lambda key: (_digest(str(seed), str(epoch), key), key))


def _digest(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).digest()[:8], "big")
