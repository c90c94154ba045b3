"""The text that a token stands for, by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

_SPACE = "\u2581"
"""Stands for a space in the pieces of SentencePiece, which decoding drops at the beginning of a text."""


@runtime_checkable
class Decoder(Protocol):
    """What is needed of a Hugging Face tokenizer (so that this module need not import the library)."""

    def convert_ids_to_tokens(self, ids: list[int]) -> str | list[str]: ...

    def batch_decode(self, sequences: list[list[int]], *, clean_up_tokenization_spaces: bool) -> list[str]: ...

    def __len__(self) -> int: ...


def token_texts(tokenizer: Decoder, ids: Sequence[int]) -> list[str]:
    """The text of each token; bytes that are no character by themselves are U+FFFD, ids without a token `<id>`."""
    known = [each for each in ids if each < len(tokenizer)]
    pieces = tokenizer.convert_ids_to_tokens(known)
    texts = tokenizer.batch_decode([[each] for each in known], clean_up_tokenization_spaces=False)
    found = {
        each: f" {text}" if piece and piece.startswith(_SPACE) and not text.startswith(" ") else text
        for each, piece, text in zip(known, pieces, texts, strict=True)
    }
    return [found.get(each, f"<{each}>") for each in ids]
