"""How many bytes of its document each token stands for: what makes losses of different tokenizers comparable.

The bytes are those of the text, not of the tokenizer's pieces, which may be shorter (blanks dropped, letters lowered,
words that are unknown) or longer (three bytes for a blank, characters taken apart). A token stands for the text from
where the one before it ends to where it ends itself; the last one also for what follows it. Tokens that stand for one
stretch of text together (bytes of one character) share its bytes evenly. So the bytes of a document's tokens always
add up to its length in UTF-8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Offsets = Sequence[tuple[int, int]]
"""Where in a text each token begins and ends, in characters; as tokenizers of the `tokenizers` library say it."""


def bytes_by_offsets(text: str, offsets: Offsets) -> np.ndarray:
    """Bytes of each token of a document; int64 [n], which sum to the bytes of the text.

    Args:
        text: the document.
        offsets: of its tokens, at least one.
    """
    byte_at = byte_positions(text)
    spans = np.asarray(offsets, dtype=np.int64).clip(0, len(text))
    ends = np.maximum.accumulate(spans[:, 1])
    first = np.flatnonzero(np.diff(ends, prepend=-1))  # of the tokens that end at one place
    members = np.diff(first, append=len(ends))
    before, end = np.append(0, ends[first][:-1]), ends[first]
    second = spans[np.minimum(first + 1, len(ends) - 1), 0]
    alone = np.where(members > 1, second.clip(before, end), end)  # up to here the first of them is by itself
    n_bytes = _even_shares(byte_at[end] - byte_at[alone], members)
    n_bytes[first] += byte_at[alone] - byte_at[before]
    n_bytes[-1] += byte_at[-1] - byte_at[end[-1]]
    return n_bytes


def bytes_by_pieces(text: str, pieces: Sequence[str]) -> np.ndarray:
    """The same without offsets, which tokenizers in plain Python do not have: the bytes of the text are shared out in
    proportion to the lengths of the pieces."""
    lengths = np.array([max(1, len(piece)) for piece in pieces], dtype=np.int64).cumsum()
    return np.diff(lengths * len(_utf8(text)) // lengths[-1], prepend=0)


def byte_positions(text: str) -> np.ndarray:
    """Where each character begins, in bytes of UTF-8, and where the text ends [characters + 1]."""
    if text.isascii():
        return np.arange(len(text) + 1)
    code = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return np.append(0, np.cumsum(1 + (code > 0x7F) + (code > 0x7FF) + (code > 0xFFFF)))


def _even_shares(totals: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Each total in whole parts for so many members, one after another."""
    total, n = np.repeat(totals, members), np.repeat(members, members)
    j = np.arange(len(n)) - np.repeat(np.cumsum(members) - members, members)
    return total * (j + 1) // n - total * j // n


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
