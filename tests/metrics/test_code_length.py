"""Description lengths against a code that is counted by hand, and against the entropy of what is known."""

import math
from collections import Counter

import pytest
import torch

from sae_cli.evaluation.baselines import Bases
from sae_cli.evaluation.code_step import NEUTRAL, neutral_step_of_variance
from sae_cli.metrics.code_length import LevelCounts, quantized
from sae_cli.metrics.encoded import Encoded

F, D, STEP = 5, 4, 0.25


class Codes:
    """A dictionary that is handed its features."""

    def __init__(self, seed=0):
        self.W_dec = torch.randn(F, D, generator=torch.Generator().manual_seed(seed))
        self.n_features = F

    def encode(self, x):
        return x

    def decode(self, f, x):
        return f @ self.W_dec

    def decoder_norms(self):
        return self.W_dec.norm(dim=1)


def sparse(n, seed):
    generator = torch.Generator().manual_seed(seed)
    f = torch.rand(n, F, generator=generator) * 3
    return f * (torch.rand(n, F, generator=generator) < torch.tensor([0.5, 0.2, 0.1, 0.02, 0.0]))


def test_lengths_against_counting_by_hand():
    fitted, told = (Encoded(Codes(), sparse(n, seed)) for n, seed in ((400, 1), (60, 2)))
    counts = LevelCounts(F, STEP)
    counts.add(fitted)
    found = counts.results().bits(told)
    norms = Codes().decoder_norms().double()
    levels = [(each.f.double() * norms / STEP).round().long() for each in (fitted, told)]
    for token, codes in enumerate(levels[1].tolist()):
        bits = 0.0
        for feature, level in enumerate(codes):
            seen = Counter(levels[0][:, feature].tolist())
            of_zero = seen.pop(0, 0)
            total = 400 + 0.5 * (len(seen) + 2)
            count = of_zero if level == 0 else seen.get(level, 0)
            bits -= math.log2((count + 0.5) / total)
            if level and level not in seen:
                bits += 2 * math.floor(math.log2(level)) + 1
        assert float(found[token]) == pytest.approx(bits, abs=1e-9), token


def test_it_is_a_code():
    """What it says of one feature are lengths that words can have: Kraft's sum is at most 1."""
    counts = LevelCounts(F, STEP)
    counts.add(Encoded(Codes(), sparse(400, 1)))
    for feature in range(F):
        f = torch.zeros(3000, F)
        f[:, feature] = torch.arange(3000) * STEP / Codes().decoder_norms()[feature]
        silent = torch.zeros(1, F)
        book = counts.results()
        others = float(book.off.sum() - book.off[feature])
        lengths = book.bits(Encoded(Codes(), f)) - others
        assert float(torch.exp2(-lengths).sum()) <= 1 + 1e-9
        assert float(book.bits(Encoded(Codes(), silent))[0]) == pytest.approx(float(book.off.sum()))


def test_much_text_takes_its_entropy():
    """A feature on with p at one strength: H(p) bits a token."""
    f = torch.zeros(40_000, F)
    on = torch.rand(40_000, generator=torch.Generator().manual_seed(3)) < 0.1
    f[on, 0] = 1.0
    counts = LevelCounts(F, STEP)
    counts.add(Encoded(Codes(), f))
    p = float(on.double().mean())
    entropy = -p * math.log2(p) - (1 - p) * math.log2(1 - p)
    assert float(counts.results().bits(Encoded(Codes(), f)).mean()) == pytest.approx(entropy, abs=1e-3)


def test_what_is_rounded():
    f, norms = sparse(50, 4), Codes().decoder_norms()
    steps = quantized(f, norms, STEP) * norms / STEP
    torch.testing.assert_close(steps, steps.round())
    torch.testing.assert_close(steps, (f * norms / STEP).round())
    assert not quantized(f, torch.zeros(F), STEP).any()


def test_a_neutral_step_costs_what_it_may():
    dictionary, x = _basis(k=3)
    step = neutral_step_of_variance(dictionary, x)
    seen = Encoded(dictionary, x)
    coarse = dictionary.decode(quantized(seen.f, seen.decoder_norms, step), x)
    cost = ((x - coarse).square().sum() - (x - seen.reconstruction).square().sum()) / (x - x.mean(dim=0)).square().sum()
    assert float(cost) == pytest.approx(NEUTRAL, rel=0.25)


def test_a_basis_with_the_bits_of_one_with_more_coefficients_has_as_many():
    dictionary, x = _basis(k=7)
    counts = LevelCounts(dictionary.n_features, step := neutral_step_of_variance(dictionary, x))
    counts.add(Encoded(dictionary, x))
    bits = float(counts.results().bits(Encoded(dictionary, x)).mean())
    other = Bases(x, x.mean(dim=0), 3)
    at_l0 = neutral_step_of_variance(other.at_l0("random"), x)
    assert int(other.at_l0("random").k) == 3
    assert abs(int(other.at_bits("random", bits, at_l0).k) - 7) <= 1
    assert int(other.at_bits("random", bits, step).k) > 3


def _basis(k):
    x = torch.randn(4000, 16, generator=torch.Generator().manual_seed(5)) @ torch.randn(
        16, 16, generator=torch.Generator().manual_seed(6)
    )
    return Bases(x, x.mean(dim=0), k).at_l0("random"), x
