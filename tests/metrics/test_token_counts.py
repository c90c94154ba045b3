"""Entropy and shares of tokens against a count in plain Python."""

from collections import Counter
from math import log2

import numpy as np
import pytest
import torch
from scipy.stats import binom

from sae_cli.metrics import token_counts
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.token_counts import TokenCounts

N, F, V = 3000, 7, 50


def given(**seen):
    """What a pass sees, whatever dictionary has made it."""
    made = Encoded.__new__(Encoded)
    vars(made).update(seen)
    return made


def problem():
    g = torch.Generator().manual_seed(0)
    tokens = (torch.rand(N, generator=g) ** 3 * V).long()
    active = torch.rand(N, F, generator=g) < torch.tensor([0.9, 0.3, 0.05, 0.01, 0.3, 0.3, 0.0])
    active[:, 4] = tokens == 3  # one token only
    active[:, 5] &= (tokens == 1) | (tokens == 2)
    return active, tokens


@pytest.mark.parametrize("at_once", [1, 100, 10**6])
def test_against_a_plain_count(monkeypatch, at_once):
    monkeypatch.setattr(token_counts, "_KEYS_AT_ONCE", at_once)
    active, tokens = problem()
    counts = TokenCounts(F, V)
    for part, part_tokens in zip(active.split(450), tokens.split(450), strict=True):
        counts.add(given(f=part.float(), tokens=part_tokens))
    found = counts.results()
    for feature in range(F - 1):
        seen = Counter(tokens[active[:, feature]].tolist())
        total = sum(seen.values())
        shares = sorted((n / total for n in seen.values()), reverse=True)
        assert float(found["token_entropy"][feature]) == pytest.approx(-sum(p * log2(p) for p in shares), abs=1e-5)
        assert float(found["top1_share"][feature]) == pytest.approx(shares[0])
        assert float(found["top3_share"][feature]) == pytest.approx(sum(shares[:3]))
    assert found["token_entropy"][4] == 0 and found["top1_share"][4] == 1
    assert all(values[F - 1].isnan() for values in found.values())


def test_entropy_of_chance_against_its_expectation():
    """Σ over tokens of E[-(c/n) log2(c/n)], c binomial; what fires at random has none above it, one token all of it."""
    share = np.arange(1, 21) ** -1.0
    share /= share.sum()
    seen = torch.from_numpy((share * 1e6).round()).long()
    draws = [1, 2, 7, 40, 1000]
    found = token_counts.chance_entropy(seen, torch.tensor([float(n) for n in [0, *draws]]))
    for n, entropy in zip(draws, found[1:].tolist(), strict=True):
        c = np.arange(1, n + 1)
        parts = -(c / n) * np.log2(c / n)
        expected = sum((binom.pmf(c, n, p) * parts).sum() for p in share)
        assert entropy == pytest.approx(expected, abs=0.02)
    active, tokens = problem()
    counts = TokenCounts(F, V)
    counts.add(given(f=active.float(), tokens=tokens))
    above = counts.results()["token_entropy_above_chance"]
    assert above[:3].abs().max() < 0.25
    assert above[4] < -3


def test_merged_counts_have_the_same_chance():
    active, tokens = problem()
    whole, parts = TokenCounts(F, V), [TokenCounts(F, V), TokenCounts(F, V)]
    whole.add(given(f=active.float(), tokens=tokens))
    for part, some in zip(parts, (slice(0, 1000), slice(1000, N)), strict=True):
        part.add(given(f=active[some].float(), tokens=tokens[some]))
    merged = parts[0].merge(parts[1]).results()
    for name, values in whole.results().items():
        assert torch.equal(values.nan_to_num(), merged[name].nan_to_num())


def test_pairs_are_sorted_again_only_as_their_number_doubles(monkeypatch):
    """Of n batches of as many new pairs: n·log n of them in all, not n²."""
    sorted_pairs = []

    def counted(first, second):
        sorted_pairs.append(len(first[0]) + len(second[0]))
        return original(first, second)

    original = token_counts._sum
    monkeypatch.setattr(token_counts, "_sum", counted)
    monkeypatch.setattr(token_counts, "_KEYS_AT_ONCE", 1)
    batches, each = 64, 50
    counts = TokenCounts(batches * each, 3)
    for i in range(batches):
        active = torch.zeros(1, batches * each)
        active[0, i * each : (i + 1) * each] = 1
        counts.add(given(f=active, tokens=torch.tensor([i % 3])))
    assert counts.results()["top1_share"].tolist() == [1.0] * (batches * each)
    assert sum(sorted_pairs) <= batches * each * 8  # log2 of 64 and the last time; each batch anew would be 33 times
