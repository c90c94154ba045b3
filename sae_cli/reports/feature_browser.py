"""Feature pages as what the feature browser shows them from, within a number of cells."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sae_cli.documents import Document
from sae_cli.escaping import visible
from sae_cli.metrics.catalogue import figures
from sae_cli.metrics.figure import Figure, In, Of
from sae_cli.reports.packing import Pack
from sae_cli.reports.values import FeaturePages

MOST_CELLS = 1_500_000
"""Tokens in all contexts of a page: above 2,048 features with 25 contexts of 25 tokens, and about 4 MB compressed."""


def browser_document(pages: FeaturePages, pack: Pack) -> Document:
    """The pages in JSON values, their numbers in the pack."""
    slots = kept_slots(pages)
    tokens, words = _numbered(pages.tokens[:, slots], pages.vocabulary, "token")
    document, documents = _numbered(pages.document[:, slots], pages.documents, "document")
    logits, logit_words = _logits(pages)
    return {
        "feature": pack.add(pages.feature),
        "figures": [_figure(each) for each in figures(Of.FEATURE).values() if each.key in pages.statistics],
        "statistics": {name: pack.add(values) for name, values in pages.statistics.items()},
        "tokens": pack.add(tokens),
        "activations": pack.add(pages.activations[:, slots].astype(np.float32)),
        "document": pack.add(document),
        "quantile": pack.add(pages.quantile[:, slots]),
        "peak": pack.add(pages.peak[:, slots].astype(np.float32)),
        "words": words,
        "documents": documents,
        "bands": pages.bands,
        "nearest": pack.add(pages.nearest),
        "nearest_cosine": pack.add(pages.nearest_cosine),
        "logits": {name: pack.add(values) for name, values in logits.items()},
        "logit_words": logit_words,
        "ablation": {str(feature): _escaped(figures) for feature, figures in pages.ablation.items()},
        "concepts": {str(feature): visible(text) for feature, text in pages.concepts.items()},
        "left_out": pages.tokens.shape[1] - len(slots),
    }


def _figure(figure: Figure) -> Document:
    """How the browser calls a statistic, and where it shows it."""
    return {
        "name": figure.key,
        "label": figure.label,
        "heading": figure.short,
        "on_page": In.PAGE in figure.shown,
        "in_list": In.LIST in figure.shown,
    }


def kept_slots(pages: FeaturePages) -> np.ndarray:
    """The slots of contexts that fit into a page: all, or as many of each group as there is room for, in order."""
    features, n_slots, width = pages.tokens.shape
    most = max(1, MOST_CELLS // max(1, features * width))
    if n_slots <= most:
        return np.arange(n_slots)
    group = pages.quantile.max(axis=0) if features else np.zeros(n_slots, dtype=np.int64)
    rank = np.zeros(n_slots, dtype=np.int64)
    for each in np.unique(group):
        inside = np.flatnonzero(group == each)
        rank[inside] = np.arange(len(inside))
    order = np.lexsort((np.arange(n_slots), group, rank))
    return np.sort(order[:most])


def _numbered(ids: np.ndarray, texts: Mapping[int, str], what: str) -> tuple[np.ndarray, list[str]]:
    """Ids as places in a list of their texts, -1 for none; 16 bits wide where that is enough."""
    used, places = np.unique(ids, return_inverse=True)
    none = int(np.searchsorted(used, 0))  # negative ids stand for nothing
    words = [visible(texts.get(int(each), f"{what} {each}")) for each in used[none:]]
    places = places.reshape(ids.shape) - none
    if len(words) < 2**16 - 1:
        return np.where(places < 0, 2**16 - 1, places).astype(np.uint16), words
    return np.maximum(places, -1).astype(np.int32), words


def _logits(pages: FeaturePages) -> tuple[dict[str, np.ndarray], list[str]]:
    logits = dict(pages.logits)
    if not logits:
        return {}, []
    both = np.stack([logits["top_token"], logits["bottom_token"]])
    places, words = _numbered(both, pages.vocabulary, "token")
    return logits | {"top_token": places[0], "bottom_token": places[1]}, words


def _escaped(value: object) -> object:
    match value:
        case str():
            return visible(value)
        case list() | tuple():
            return [_escaped(each) for each in value]
        case dict():
            return {visible(str(key)): _escaped(each) for key, each in value.items()}
        case _:
            return value
