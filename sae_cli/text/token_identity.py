"""Whether two tokenizers make the same rows of a text, so that models can be compared token by token."""

from __future__ import annotations

import json
from typing import Any, Protocol, runtime_checkable

# What changes neither the ids of a text nor what they stand for.
_IRRELEVANT = ("version", "truncation", "padding", "post_processor")


@runtime_checkable
class Vocabulary(Protocol):
    """What is needed of a Hugging Face tokenizer (so that this module need not import the library)."""

    def get_vocab(self) -> dict[str, int]: ...


def same_tokens(a: Vocabulary, b: Vocabulary) -> bool:
    """Whether two Hugging Face tokenizers give any text the same ids, special tokens left out.

    Vocabularies alone do not say so: the same pieces may be merged in another order.
    """
    if a.get_vocab() != b.get_vocab():
        return False
    backends = [getattr(each, "backend_tokenizer", None) for each in (a, b)]
    if None in backends:
        return type(a) is type(b)
    one, other = (_content(json.loads(backend.to_str())) for backend in backends if backend is not None)
    return one == other


def _content(serialized: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in serialized.items() if key not in _IRRELEVANT}
    kept["added_tokens"] = sorted((each["id"], each["content"]) for each in kept.get("added_tokens") or [])
    return kept
