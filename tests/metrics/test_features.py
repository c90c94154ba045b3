"""Feature counts against a brute-force count, and the floor of directions' similarity."""

import pytest
import torch

from sae_cli.metrics.encoded import Encoded
from sae_cli.metrics.features import FeatureSums

N, F = 500, 12


def given(**seen):
    """What a pass sees, whatever dictionary has made it."""
    made = Encoded.__new__(Encoded)
    vars(made).update(seen)
    return made


@pytest.fixture
def f():
    g = torch.Generator().manual_seed(0)
    f = torch.relu(torch.randn(N, F, generator=g) - torch.linspace(-1, 4, F))
    f[:, -1] = 0
    return f


def counted(f, *, sizes=(N,)):
    sums = FeatureSums.empty(F)
    for part in f.split(list(sizes)):
        sums.add(given(f=part))
    return sums


def test_against_counting_one_by_one(f):
    tensors = counted(f).tensors()
    for i in range(F):
        active = [value for value in f[:, i].tolist() if value > 0]
        assert tensors["count"][i] == len(active)
        assert tensors["mean_act"][i] == pytest.approx(sum(active) / len(active) if active else 0, rel=1e-6)
        assert tensors["max_act"][i] == (max(active) if active else 0)
    assert tensors["count"].dtype == torch.int64 and tensors["tokens"].tolist() == [N]


@pytest.mark.parametrize("sizes", [(1,) * N, (123, 377)])
def test_batches_and_ranks_give_the_same(f, sizes):
    whole, split = counted(f), counted(f, sizes=sizes)
    merged = counted(f[:200], sizes=(200,)).merge(counted(f[200:], sizes=(300,)))
    for other in (split, merged):
        assert torch.equal(other.count, whole.count) and other.n == whole.n
        torch.testing.assert_close(other.sum_act, whole.sum_act, rtol=1e-9, atol=0)
        assert torch.equal(other.max_act, whole.max_act)


def test_summary_by_hand():
    sums = FeatureSums.empty(6)
    sums.n, sums.count = 2_000_000, torch.tensor([0, 1, 19, 20, 30_000, 300_000])
    found = {key: each for key, each in sums.results().items() if not key.startswith("l0_share")}
    assert found == {
        "feature_tokens": 2_000_000,
        "frequency_resolution": 5e-7,
        "alive": 5,
        "dead": 1,
        "ultra_rare": 2,
        "dense_1": 2,
        "dense_10": 1,
    }
    sums.n = 999_999
    assert sums.results()["ultra_rare"] is None


def test_counts_do_not_stop_at_two_to_the_24():
    sums = FeatureSums.empty(1)
    sums.count += 2**24
    sums.add(given(f=torch.ones(3, 1)))
    assert sums.count.item() == 2**24 + 3


def test_shares_of_l0_by_band():
    sums = FeatureSums.empty(5)
    sums.n, sums.count = 10_000, torch.tensor([2000, 500, 50, 5, 0])
    found = sums.results()
    shares = [found[f"l0_share_{band}"] for band in ("above_10", "1_to_10", "0.1_to_1", "below_0.1")]
    assert shares == pytest.approx([2000 / 2555, 500 / 2555, 50 / 2555, 5 / 2555])
    nothing = FeatureSums.empty(2)
    nothing.n = 3
    assert nothing.results()["l0_share_above_10"] is None
