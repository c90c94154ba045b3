"""Feature pages as SAEDashboard makes them for Neuronpedia: `batch-<n>.json`, and `skipped_indexes.json` of the
features that there is no page of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sae_cli.documents import Document
from sae_cli.runs.feature_pages import StoredPages

FEATURES_A_FILE = 128
SKIPPED = "skipped_indexes.json"

_ALIGNED = 3
"""Dimensions that a feature's row is shown by."""
_TOP = -1.0
"""Stands for the borders of the group of largest activations, which is no interval."""
_NOT_SKIPPED_BY_SPARSITY = 1
_UNMEASURED = ("correlated_neurons", "correlated_features")


class Dashboards(NamedTuple):
    """What stands in every file.

    Attributes:
        model: as Neuronpedia calls it.
        layer: of the hook.
        set: of dictionaries that this one is of.
        data_set: that the text of the pages is from.
    """

    model: str
    layer: int
    set: str
    data_set: str


def documents(pages: StoredPages, about: Dashboards, W_dec: Tensor) -> Iterator[tuple[str, Document]]:
    """The files by their names, one after another.

    Args:
        pages: of features, with histograms.
        about: what stands in every file.
        W_dec: rows of the dictionary [F, d].
    """
    features = _integers(pages.contexts["feature"])
    head: Document = {"model_id": about.model, "layer": about.layer, "sae_set": about.set, "sae_id_suffix": None}
    for number, start in enumerate(range(0, len(features), FEATURES_A_FILE)):
        rows = range(start, min(start + FEATURES_A_FILE, len(features)))
        yield f"batch-{number}.json", {**head, "features": [_feature(pages, about, W_dec, row) for row in rows]}
    skipped: Document = {
        "model_id": about.model,
        "layer": str(about.layer),
        "sae_set": about.set,
        "log_sparsity": _NOT_SKIPPED_BY_SPARSITY,
        "skipped_indexes": sorted({*range(len(W_dec))} - {*features}),
    }
    yield SKIPPED, skipped


def _feature(pages: StoredPages, about: Dashboards, W_dec: Tensor, row: int) -> Document:
    feature, context = int(pages.contexts["feature"][row]), int(pages.about.get("context", 0))
    return {
        "feature_index": feature,
        **_alignment(W_dec[feature]),
        **{f"{name}_{what}": [] for name in _UNMEASURED for what in ("indices", "l1", "pearson")},
        **_logits(pages, row),
        "frac_nonzero": float(pages.tensors["frequency"][row]),
        **_histograms(pages, row),
        "n_prompts_total": pages.about["tokens_seen"] // max(1, context - 1),
        "n_tokens_in_prompt": context,
        "dataset": about.data_set,
        "activations": list(_activations(pages, row)),
        "decoder_weights_dist": [],
        "vector": [],
    }


def _alignment(row: Tensor) -> Document:
    """The dimensions with the largest entries of a feature's row, and their shares of Σ|entries|."""
    values, indices = row.float().topk(min(_ALIGNED, len(row)))
    shares = values.abs() / row.float().abs().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return {
        "neuron_alignment_indices": _integers(indices),
        "neuron_alignment_values": _rounded(values),
        "neuron_alignment_l1": _rounded(shares),
    }


def _logits(pages: StoredPages, row: int) -> Document:
    found: Document = {}
    for theirs, ours in (("neg", "bottom"), ("pos", "top")):
        tokens = _integers(pages.tensors[f"{ours}_token"][row]) if f"{ours}_token" in pages.tensors else []
        weights = pages.tensors[f"{ours}_weight"][row] if tokens else torch.zeros(0)
        found |= {f"{theirs}_str": [pages.token(each) for each in tokens], f"{theirs}_values": _rounded(weights)}
    return found


def _histograms(pages: StoredPages, row: int) -> Document:
    """The middles and heights of bars: of activations up to the largest, of all logit weights."""
    held = pages.histograms
    least, most, heights = float(held["logit_least"][row]), float(held["logit_most"][row]), held["logit_count"][row]
    step = (most - least) / len(heights)
    logits = torch.tensor([least + step * (bar + 0.5) for bar in range(len(heights))])
    counts = held["activation_count"][row] if "activation_count" in held else torch.zeros(0, dtype=torch.int64)
    counts = counts[: int(counts.nonzero().max()) + 1] if counts.any() else counts[:0]
    middles = (torch.arange(len(counts)) + 0.5) * (float(held["activation_step"][row]) if len(counts) else 0.0)
    return {
        "freq_hist_data_bar_values": _rounded(middles),
        "freq_hist_data_bar_heights": _integers(counts),
        "logits_hist_data_bar_heights": _integers(heights),
        "logits_hist_data_bar_values": _rounded(logits),
    }


def _activations(pages: StoredPages, row: int) -> Iterator[Document]:
    """The largest activations, then the bands from the highest to the lowest."""
    contexts, bands = pages.contexts, pages.about["bands"]
    quantile, taken = contexts["quantile"][row], contexts["document"][row] >= 0
    there = sorted({*_integers(quantile[taken])}, reverse=True)
    largest = max((float(each) for each in contexts["peak"][row][taken]), default=0.0)
    for group in [each for each in there if each == 0] + [each for each in there if each > 0]:
        least, most, share = _TOP, largest, _TOP
        if group:
            edges = pages.histograms["band_edge"][row]
            least, most = float(edges[group - 1]), min(float(edges[group]), largest)
            share = int(pages.histograms["activation_count"][row].sum()) / bands / pages.about["tokens_seen"]
        for slot in _integers(((quantile == group) & taken).nonzero()[:, 0]):
            tokens, values = contexts["tokens"][row, slot], contexts["activations"][row, slot]
            inside = (tokens >= 0).nonzero()[:, 0]
            yield {
                "bin_min": _short(least),
                "bin_max": _short(most),
                "bin_contains": share,
                "tokens": [pages.token(each) for each in _integers(tokens[inside])],
                "values": _rounded(values[inside]),
                "qualifying_token_index": int((inside < len(tokens) // 2).sum()),
            }


def _rounded(values: Tensor) -> list[float]:
    numbers: list[float] = np.asarray(values).tolist()
    return [_short(each) for each in numbers]


def _integers(values: Tensor) -> list[int]:
    return np.asarray(values).tolist()


def _short(value: float) -> float:
    """With three digits after the point, or the first three digits where that is more."""
    return round(value, 3) if abs(value) >= 1 else float(f"{value:.3g}")
