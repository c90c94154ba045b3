"""Which tokens of a document a concept is true of, where it is known of which characters it is.

A token carries a label if the larger part of its characters lies inside the spans. Blanks count only in tokens that
have nothing else, so that a tokenizer's habit of putting the blank into the word after it decides nothing. Of a
character that several tokens share, each has the part that its bytes are of it. A token of which exactly half lies
inside is neither: it is `TIE`. All of it is of the document, and not of the row that a token is packed into.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np

from sae_cli.text.concepts.python_source import Span
from sae_cli.text.token_bytes import byte_positions

TIE = -1
"""The label of a token that is neither inside nor outside."""

_SHARES = 12
"""Into which a character is divided: characters have one to four bytes."""


class TokenPlaces:
    """The tokens of one document.

    Args:
        text: the document.
        n_bytes: bytes of it that each token stands for, one token after the other [n].
    """

    def __init__(self, text: str, n_bytes: np.ndarray) -> None:
        self.text = text
        self._bytes_at = byte_positions(text)
        self._edges = np.minimum(np.append(0, np.cumsum(n_bytes)), self._bytes_at[-1])
        widths = np.diff(self._bytes_at)
        self._share = np.repeat(_SHARES // np.maximum(widths, 1), widths)
        blank = np.fromiter(map(str.isspace, text), bool, len(text))
        self._ink = self._share * ~np.repeat(blank, widths)
        self._widths = widths

    @cached_property
    def _totals(self) -> tuple[np.ndarray, np.ndarray]:
        return self._sums(self._ink), self._sums(self._share)

    def labels(self, spans: Iterable[Span]) -> np.ndarray:
        """1 for tokens inside, 0 for those outside, `TIE` for those that are neither; int8 [n]."""
        inside = np.repeat(self._characters(spans), self._widths)
        ink, everything = self._totals
        has_ink = ink > 0
        covered = np.where(has_ink, self._sums(self._ink * inside), self._sums(self._share * inside))
        doubled, total = 2 * covered, np.where(has_ink, ink, everything)
        labels = (doubled > total).astype(np.int8)
        labels[(doubled == total)] = TIE
        return labels

    def _characters(self, spans: Iterable[Span]) -> np.ndarray:
        """Which characters are in one of the spans, which may overlap; bool [characters]."""
        edges = np.array([*spans], dtype=np.int64).reshape(-1, 2)
        change = np.zeros(len(self.text) + 1, dtype=np.int64)
        np.add.at(change, edges[:, 0], 1)
        np.add.at(change, edges[:, 1], -1)
        return change.cumsum()[:-1] > 0

    def _sums(self, of_bytes: np.ndarray) -> np.ndarray:
        """The sum over the bytes of each token [n]."""
        return np.diff(np.append(0, np.cumsum(of_bytes))[self._edges])
