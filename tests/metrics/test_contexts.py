"""Contexts, against a search through all activations that is written out."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from sae_cli.kernels.codes import Codes
from sae_cli.metrics.contexts import BINS, OVERSAMPLED, CodedRows, ContextCollector, ContextShape

T, F, FIRST = 12, 7, 1
SHAPE = ContextShape(top=3, bands=4, per_band=2, window=4)


def made_up(rows, seed=0, density=0.3):
    """Activations [rows, T - 1, F], tokens and documents [rows, T]."""
    rng = np.random.default_rng(seed)
    f = rng.exponential(size=(rows, T - FIRST, F)).astype(np.float32)
    f[rng.random(f.shape) > density] = 0
    f[:, :, 5] = 0  # dead
    f[: rows // 2, :, 6] = 0
    f[rows // 2 + 1 :, :, 6] = 0  # fires in one row only
    return f, rng.integers(0, 50, (rows, T)), np.sort(rng.integers(100, 100 + rows, rows * T)).reshape(rows, T)


def collected(f, tokens, documents, features: Sequence[int] = range(F), shape=SHAPE, at_once=None, seed=0):
    collector = ContextCollector(torch.tensor(list(features)), F, T, FIRST, shape, seed)
    at_once = at_once or len(f)
    for i in range(0, len(f), at_once):
        codes = Codes.of_dense(torch.from_numpy(f[i : i + at_once]).flatten(0, 1))
        rows = (torch.from_numpy(each[i : i + at_once]) for each in (tokens, documents))
        collector.add(CodedRows(codes, *rows))
    assert collector.tokens == len(f) * (T - FIRST)
    return {name: each.numpy() for name, each in collector.results().items()}


def window(row, position, row_tokens, f, feature):
    """Tokens and activations around a position, by hand."""
    tokens, activations = [], []
    for p in range(position - SHAPE.window // 2, position + SHAPE.window // 2 + 1):
        tokens.append(row_tokens[row, p] if 0 <= p < T else -1)
        activations.append(f[row, p - FIRST, feature] if FIRST <= p < T else 0)
    return tokens, activations


def test_the_largest_peaks_one_a_row_against_a_search():
    f, tokens, documents = made_up(40)
    found = collected(f, tokens, documents)
    for feature in range(F):
        peaks = [(-float(f[row, :, feature].max()), row) for row in range(len(f)) if f[row, :, feature].max() > 0]
        wanted = sorted(peaks)[: SHAPE.top]
        for slot in range(SHAPE.top):
            if slot >= len(wanted):
                assert found["document"][feature, slot] == -1 and (found["tokens"][feature, slot] == -1).all()
                assert not found["activations"][feature, slot].any() and not found["peak"][feature, slot]
                continue
            row = wanted[slot][1]
            position = int(f[row, :, feature].argmax()) + FIRST
            around, activations = window(row, position, tokens, f, feature)
            assert found["position"][feature, slot] == position
            assert found["document"][feature, slot] == documents[row, position]
            assert found["peak"][feature, slot] == f[row, position - FIRST, feature]
            assert found["tokens"][feature, slot].tolist() == around
            np.testing.assert_array_equal(found["activations"][feature, slot], activations)


def test_bands_are_quantiles_of_all_activations_where_these_are_few():
    f, tokens, documents = made_up(8, density=0.2)
    found = collected(f, tokens, documents)
    for feature in range(F):
        values = np.sort(f[:, :, feature][f[:, :, feature] > 0])
        assert len(values) <= SHAPE.bands * SHAPE.per_band * OVERSAMPLED
        bands = np.arange(len(values)) * SHAPE.bands // max(1, len(values))
        for band in range(SHAPE.bands):
            slots = (found["quantile"][feature] == band + 1) & (found["document"][feature] >= 0)
            shown = found["peak"][feature, slots]
            assert len(shown) == min(SHAPE.per_band, int((bands == band).sum()))
            assert set(shown) <= set(values[bands == band]) and list(shown) == sorted(shown, reverse=True)


def distributions(rows, seed):
    """Activations of F features that are on half of the tokens, each of another shape; steps of one that repeats."""
    rng = np.random.default_rng(seed)
    shape = (rows, T - FIRST)
    f = np.stack(
        [
            rng.exponential(size=shape),
            rng.lognormal(0, 3, size=shape),  # largest of them a million times the median
            np.where(rng.random(shape) < 0.001, 1e4, rng.random(shape)),  # outliers
            1e-6 * rng.gamma(3, size=shape),
            np.ceil(rng.random(shape) * 5),  # five values
            np.full(shape, 2.5),
            1000 + np.sort(rng.exponential(size=shape), axis=0),  # grows with the text
        ],
        axis=-1,
    ).astype(np.float32)
    f[rng.random(f.shape) > 0.5] = 0
    return f, rng.integers(0, 50, (rows, T)), np.sort(rng.integers(100, 100 + rows, rows * T)).reshape(rows, T)


@pytest.mark.parametrize("seed", range(3))
def test_every_context_lies_in_its_band_of_all_activations_of_the_pass(seed):
    """By the true quantiles; of equal activations, any that one of them has."""
    f, tokens, documents = distributions(900, seed)
    shape = ContextShape(top=1, bands=5, per_band=3, window=2)
    found = collected(f, tokens, documents, shape=shape, seed=seed)
    for feature in range(F):
        values = np.sort(f[:, :, feature][f[:, :, feature] > 0])
        peak, band = found["peak"][feature, 1:], found["quantile"][feature, 1:]
        taken = found["document"][feature, 1:] >= 0
        assert taken.sum() >= 12 or feature in (4, 5)
        lowest, highest = (np.searchsorted(values, peak, side=side) / len(values) for side in ("left", "right"))
        inside = (lowest < band / 5) & (highest > (band - 1) / 5)
        if feature == 6:  # all within 1 %: less than 1/32 from the border
            borders = values[np.minimum(len(values) - 1, np.arange(6) * len(values) // 5)]
            inside |= np.abs(peak[:, None] / borders - 1).min(axis=1) < 1 / 32
        assert inside[taken].all(), (feature, peak, band)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_histogram_does_not_depend_on_the_order_of_the_text(seed):
    f, tokens, documents = distributions(60, seed)
    histograms = []
    for rows in (np.arange(60), np.arange(60)[::-1].copy(), np.random.default_rng(2).permutation(60)):
        collector = ContextCollector(torch.arange(F), F, T, FIRST, SHAPE, 0)
        codes = Codes.of_dense(torch.from_numpy(f[rows]).flatten(0, 1))
        collector.add(CodedRows(codes, torch.from_numpy(tokens), torch.from_numpy(documents)))
        histograms.append(collector._histogram)
    for feature in range(F):
        values = f[:, :, feature][f[:, :, feature] > 0]
        numbers = np.floor(np.log2(values)).astype(int)
        numbers = numbers * 32 + np.floor((values / 2.0**numbers - 1) * 32).astype(int)  # by the definition of a bin
        expected = np.zeros(BINS, int)
        np.add.at(expected, np.maximum(BINS - 1 + numbers - numbers.max(), 0), 1)
        for counts, _ in histograms:
            assert counts[feature].tolist() == expected.tolist()


def test_the_sample_is_uniform_over_the_text_and_another_with_another_seed():
    f, tokens, documents = made_up(500, density=1)
    shape = ContextShape(top=1, bands=1, per_band=60, window=0)
    one, other = (collected(f, tokens, documents, shape=shape, seed=seed) for seed in (0, 1))
    sampled = one["document"][:5, 1:]
    assert abs(np.searchsorted(documents.flatten(), sampled).mean() / documents.size - 0.5) < 0.06
    assert abs(one["position"][:5, 1:].mean() - 6) < 0.7
    assert (one["document"] != other["document"])[:5, 1:].mean() > 0.9


@pytest.mark.parametrize("at_once", [1, 7])
def test_rows_at_once_do_not_matter(at_once):
    f, tokens, documents = made_up(40)
    whole, parts = collected(f, tokens, documents), collected(f, tokens, documents, at_once=at_once)
    for name, each in whole.items():
        np.testing.assert_array_equal(each, parts[name], err_msg=name)


def test_some_features_have_what_they_have_among_all():
    f, tokens, documents = made_up(40)
    whole, some = collected(f, tokens, documents), collected(f, tokens, documents, features=[1, 4])
    for name, each in some.items():
        np.testing.assert_array_equal(each, whole[name][[1, 4]], err_msg=name)


def test_memory_does_not_grow_with_the_text():
    f, tokens, documents = made_up(200)
    codes = Codes.of_dense(torch.from_numpy(f).flatten(0, 1))
    rows = torch.from_numpy(tokens), torch.from_numpy(documents)
    collector = ContextCollector(torch.arange(F), F, T, FIRST, SHAPE, 0)
    collector.add(CodedRows(codes, *rows))
    tracemalloc.start()
    for _ in range(2):
        collector.add(CodedRows(codes, *rows))
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(50):
        collector.add(CodedRows(codes, *rows))
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 2000
    held = sum(table.nbytes for table in (*collector._top, *collector._sample, *collector._histogram))
    assert held <= F * (SHAPE.bytes_a_feature + 64)


def test_what_the_docstring_reckons():
    assert ContextShape().bytes_a_feature == 19_776 and ContextShape().slots == 25
    assert 32_768 * ContextShape().bytes_a_feature < 649e6


def test_no_bands():
    f, tokens, documents = made_up(10)
    found = collected(f, tokens, documents, shape=ContextShape(top=2, bands=0, per_band=3, window=4))
    assert found["tokens"].shape == (F, 2, 5) and not found["quantile"].any()
