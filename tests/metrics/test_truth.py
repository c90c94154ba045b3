"""Figures against a known truth: exact where the codes are the true ones, and as counted by hand elsewhere."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from sae_cli.kernels.codes import Codes
from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.truth import GROUPS, EncodedTruth, FiringCounts, Matches, mcc
from tests.known import present

N, D, F, A = 2000, 16, 10, 14


class Given:
    """A dictionary whose codes are given, one row after another."""

    def __init__(self, f, W_dec):
        self.f, self.W_dec = f, W_dec

    def encode(self, x):
        return self.f

    def decode(self, f, x):
        return f @ self.W_dec

    def decoder_norms(self):
        return self.W_dec.norm(dim=1)


def counted(f, W_dec, true, directions, parts=1):
    counts = FiringCounts.of(Matches.between(W_dec, directions))
    size = len(f) // parts
    for i in range(0, len(f), size):
        seen = Encoded(Given(f[i : i + size], W_dec), torch.zeros(size, D))
        counts.add(EncodedTruth(seen, Codes.of_dense(true[i : i + size]), i))
    return counts.results()


def sparse(n, width, seed, p=0.1):
    g = torch.Generator().manual_seed(seed)
    return (torch.rand(n, width, generator=g) < p) * (0.5 + torch.rand(n, width, generator=g))


def rows(n, seed):
    found = torch.randn(n, D, generator=torch.Generator().manual_seed(seed))
    return found / found.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("directions", [torch.eye(D)[:A], rows(A, 0)], ids=["orthogonal", "crowded"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_truth_itself_scores_one(directions, sign):
    """In any order, with rows of any length, and of either sign."""
    order = torch.randperm(A, generator=torch.Generator().manual_seed(1))
    true = sparse(N, A, 2)
    W_dec = sign * directions[order] * (1 + torch.arange(A))[:, None]
    found = counted(true[:, order], W_dec, true, directions)
    for key in ("precision", "recall", "f1", "truth_recall", "truth_recall_weighted"):
        assert found[key] == found[f"{key}_low"] == found[f"{key}_high"] == 1.0 and found[f"{key}_se"] == 0.0
    assert found["truth_fired"] == A and found["truth_l0"] == pytest.approx(float((true > 0).sum() / N))
    assert Matches.between(W_dec, directions).uniqueness == 1.0
    assert mcc(W_dec, directions) == pytest.approx(1.0, abs=1e-6)


def by_hand(f, W_dec, true, directions):
    """The definitions, one feature after another, in float64."""
    cosine = np.abs(W_dec.double().numpy() @ directions.double().numpy().T) / np.linalg.norm(W_dec, axis=1)[:, None]
    fires, there = f.numpy() > 0, true.numpy() > 0
    precision, recall, f1 = [], [], []
    for j in range(len(W_dec)):
        if not fires[:, j].any():
            continue
        i = cosine[j].argmax()
        both = (fires[:, j] & there[:, i]).sum()
        precision.append(both / fires[:, j].sum())
        recall.append(both / there[:, i].sum() if there[:, i].any() else 0.0)
        f1.append(2 * precision[-1] * recall[-1] / (precision[-1] + recall[-1]) if both else 0.0)
    found = [(fires[:, cosine[:, i].argmax()] & there[:, i]).sum() for i in range(len(directions))]
    count = there.sum(axis=0)
    a, b = linear_sum_assignment(-cosine)
    return {
        "precision": np.mean(precision),
        "recall": np.mean(recall),
        "f1": np.mean(f1),
        "truth_recall": np.mean([each / n for each, n in zip(found, count, strict=True) if n]),
        "truth_recall_weighted": sum(found) / count.sum(),
        "mcc": cosine[a, b].mean(),
        "uniqueness": len({*cosine.argmax(axis=1).tolist()}) / len(W_dec),
    }


@pytest.mark.parametrize("parts", [1, 5])
def test_against_the_definitions(parts):
    true, directions, W_dec = sparse(N, A, 0), rows(A, 1), 3 * rows(F, 2)
    true[:, 3] = 0  # a true feature that never fires
    f = sparse(N, F, 3)
    f[:, 4] = 0  # and a feature that never does
    nearest = Matches.between(W_dec, directions).of_feature.index
    f[:, :3] += true[:, nearest[:3]] * (sparse(N, 3, 4, p=0.7) > 0)
    found = counted(f, W_dec, true, directions, parts)
    found |= {"mcc": mcc(W_dec, directions), "uniqueness": Matches.between(W_dec, directions).uniqueness}
    for key, expected in by_hand(f, W_dec, true, directions).items():
        assert found[key] == pytest.approx(expected, abs=1e-6), key
    assert found["truth_fired"] == A - 1


def test_nothing_fires():
    found = counted(torch.zeros(N, F), rows(F, 0), sparse(N, A, 0), rows(A, 1))
    assert found["precision"] is found["recall"] is found["f1"] is found["f1_se"] is None
    assert found["truth_recall"] == found["truth_recall_weighted"] == 0.0
    silent = counted(sparse(N, F, 0), rows(F, 0), torch.zeros(N, A), rows(A, 1))
    assert silent["precision"] == silent["recall"] == silent["f1"] == 0.0 and silent["truth_recall"] is None


def test_of_few_tokens_there_is_no_error():
    few = counted(torch.ones(7, F), rows(F, 0), torch.ones(7, A), rows(A, 1))
    assert few["precision"] == 1.0 and few["precision_se"] is None


def test_of_too_many_features_there_is_no_mcc(monkeypatch):
    monkeypatch.setattr("sae_cli.metrics.truth.MOST_ASSIGNED", F)
    assert mcc(rows(F + 1, 0), rows(4, 1)) is None and mcc(rows(F, 0), rows(4, 1)) is not None


@pytest.mark.slow
def test_errors_are_those_of_repeated_measurements():
    """Over 300 fresh samples of tokens, figures scatter as their errors say, and intervals hold what many give."""
    directions, W_dec = rows(A, 1), rows(F, 2)
    nearest = Matches.between(W_dec, directions).of_feature.index

    def measured(seed, n):
        true = sparse(n, A, seed)
        noise = sparse(n, F, seed + 10_000, p=0.03)
        kept = sparse(n, F, seed + 20_000, p=0.8) > 0
        return counted(true[:, nearest] * kept + noise, W_dec, true, directions)

    exact, found = measured(9_999, 400_000), [measured(seed, 1600) for seed in range(300)]
    for key in ("precision", "recall", "f1", "truth_recall", "truth_recall_weighted"):
        value, se, low, high = (
            np.array([present(each[f"{key}{part}"]) for each in found]) for part in ("", "_se", "_low", "_high")
        )
        assert np.sqrt(np.mean(se**2)) == pytest.approx(np.std(value, ddof=1), rel=0.15)
        held = np.mean((low <= present(exact[key])) & (present(exact[key]) <= high))
        assert 0.91 < held < 0.985, key
    assert GROUPS == 32
