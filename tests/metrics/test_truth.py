"""Truth metrics: a perfect oracle, assignments against brute force, firing against numpy."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch

from sae_cli.metrics.truth import Alignment, Fired, FiringSums, alignment


def rows(n, d, seed=0):
    found = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return found / found.norm(dim=1, keepdim=True)


def test_a_perfect_oracle_scores_one():
    truth = rows(20, 12)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    found = alignment(3 * truth[order], truth)
    assert torch.equal(found.of_feature, order)
    assert torch.equal(found.of_feature[found.of_truth], torch.arange(20))
    assert (found.mcc, found.uniqueness) == (pytest.approx(1), 1)
    fires = torch.rand(500, 20, generator=torch.Generator().manual_seed(2)) < 0.1
    sums = FiringSums(found)
    sums.add(Fired(fires[:, order], fires))
    assert set(sums.results().values()) == {1.0}


def test_the_best_assignment_by_brute_force():
    for seed in range(3):
        dictionary, truth = rows(4, 5, seed), rows(6, 5, seed + 10)
        cosines = (dictionary @ truth.T).abs().numpy()
        best = max(cosines[range(4), chosen].mean() for chosen in map(list, permutations(range(6), 4)))
        found = alignment(dictionary, truth)
        assert found.mcc == pytest.approx(best, rel=1e-6)
        assert found.of_feature.tolist() == cosines.argmax(axis=1).tolist()
        assert found.of_truth.tolist() == cosines.argmax(axis=0).tolist()
        assert found.uniqueness == len(set(cosines.argmax(axis=1))) / 4


def test_chunks_do_not_matter(monkeypatch):
    dictionary, truth = rows(50, 8), rows(30, 8, 1)
    whole = alignment(dictionary, truth)
    monkeypatch.setattr("sae_cli.metrics.truth._CHUNK", 7)
    parts = alignment(dictionary, truth)
    assert torch.equal(whole.of_truth, parts.of_truth)
    assert torch.equal(whole.of_feature, parts.of_feature)
    assert whole.mcc == pytest.approx(parts.mcc)


def test_firing_against_numpy():
    rng = np.random.default_rng(0)
    f, t = rng.random((400, 6)) < 0.2, rng.random((400, 4)) < 0.3
    f[:, 5] = False  # never fires
    t[:, 3] = False
    nearest, best = np.array([0, 1, 2, 3, 0, 1]), np.array([0, 1, 2, 3])
    sums = FiringSums(Alignment(torch.tensor(nearest), torch.tensor(best), None))
    half = FiringSums(Alignment(torch.tensor(nearest), torch.tensor(best), None))
    sums.add(Fired(torch.tensor(f[:150]), torch.tensor(t[:150])))
    half.add(Fired(torch.tensor(f[150:]), torch.tensor(t[150:])))
    found = sums.merge(half).results()

    def f1(ours, theirs):
        return 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())

    alive = range(5)
    precision = [(f[:, i] & t[:, nearest[i]]).sum() / f[:, i].sum() for i in alive]
    recall = [(f[:, i] & t[:, nearest[i]]).sum() / max(1, t[:, nearest[i]].sum()) for i in alive]
    assert found["firing_precision"] == pytest.approx(np.mean(precision))
    assert found["firing_recall"] == pytest.approx(np.mean(recall))
    assert found["firing_f1"] == pytest.approx(np.mean([f1(f[:, i], t[:, nearest[i]]) for i in alive]))
    assert found["truth_f1"] == pytest.approx(np.mean([f1(f[:, best[j]], t[:, j]) for j in range(3)]))
    caught = sum((f[:, best[j]] & t[:, j]).sum() for j in range(3))
    assert found["truth_recall"] == pytest.approx(caught / t.sum())


def test_what_never_fires_has_no_figures():
    sums = FiringSums(Alignment(torch.tensor([0]), torch.tensor([0]), None))
    sums.add(Fired(torch.zeros(5, 1, dtype=torch.bool), torch.zeros(5, 1, dtype=torch.bool)))
    assert set(sums.results().values()) == {None}
