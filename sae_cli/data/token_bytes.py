"""How many bytes of text each token stands for: what makes losses of different tokenizers comparable."""

from __future__ import annotations

import json
import re

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def token_byte_lengths(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Tensor:
    """Bytes of UTF-8 text of each token id [vocab_size], int64; special and unused ids count 0."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(min(vocab_size, len(tokenizer)))))
    special = set(tokenizer.all_special_ids)
    measure = len if _is_byte_level(tokenizer) else _sentencepiece_bytes
    lengths = [0 if piece is None or i in special else measure(piece) for i, piece in enumerate(pieces)]
    return torch.tensor(lengths + [0] * (vocab_size - len(lengths)), dtype=torch.int64)


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether each character of a token stands for one byte (GPT-2's alphabet)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return backend is not None and '"ByteLevel"' in json.dumps(json.loads(backend.to_str()).get("decoder"))


def _sentencepiece_bytes(piece: str) -> int:
    """SentencePiece: a lower block stands for a space, `<0x0A>` for a byte."""
    return 1 if _BYTE_TOKEN.fullmatch(piece) else len(piece.replace("\u2581", " ").encode())
