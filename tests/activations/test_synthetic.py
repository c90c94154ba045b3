"""The synthetic activations are what they say."""

from dataclasses import replace

import pytest
import torch

from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.config.split import Split
from sae_cli.metrics.similarity import max_cosines
from sae_cli.training.initialize import random_directions


def make(**changes):
    base = SyntheticActivations(
        d=16, n_features=12, mean_active=3.0, frequency_exponent=0.5, correlation=0.0, noise=0.0, seed=0
    )
    return replace(base, **changes)


def codes(truth, n_blocks=20):
    """Features recovered by least squares: the directions are independent when there are fewer than d."""
    blocks = truth.blocks(Split.train)
    x = torch.cat([next(blocks).activations for _ in range(n_blocks)]).double()
    return torch.linalg.lstsq(truth.directions().double().T, x.T).solution.T


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_frequencies_and_magnitudes(correlation):
    truth = make(correlation=correlation)
    f = codes(truth)
    active = f > 0.25
    assert f[~active].abs().max() < 1e-4
    assert f[active].min() >= 0.5 - 1e-4 and f[active].max() <= 1.5 + 1e-4
    error = (active.double().mean(0) - truth.frequencies()).abs()
    assert (error < 5 * (truth.frequencies() / len(f)).sqrt()).all()
    assert truth.frequencies().sum().item() == pytest.approx(3.0)


def test_correlation_makes_groups_fire_together():
    def within_group(correlation):
        active = (codes(make(correlation=correlation, frequency_exponent=0.0)) > 0.25).double()
        return torch.corrcoef(active.T)[0, 1].item()

    assert abs(within_group(0.0)) < 0.03
    assert within_group(0.8) > 0.3


def test_splits_differ_and_are_repeatable():
    truth = make()
    first, again, held_out = (
        next(truth.blocks(split)).activations for split in (Split.train, Split.train, Split.held_out)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, held_out)


def test_seeds_have_streams_of_their_own():
    """torch reads 32 bits of a seed: sums of shifted seeds would make the same numbers again."""
    fired = [codes(make(seed=seed), n_blocks=1) > 0.25 for seed in range(3)]
    assert not torch.equal(fired[0], fired[1]) and not torch.equal(fired[0], fired[2])


def test_no_dictionary_begins_at_the_truth():
    """Equal seeds of data and of initialization: the nearest of the first rows is as far as that of other seeds."""
    found = make(d=64, n_features=100, seed=0).directions()
    own, other = (max_cosines(found, random_directions(512, 64, seed)).mean() for seed in (0, 1))
    assert abs(float(own - other)) < 0.05
