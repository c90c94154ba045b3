"""Density windows: where they end, and their counts against an encoding of every batch by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sae_cli.dictionaries.decoder_fit import DecoderFit
from sae_cli.dictionaries.frozen_codes import FrozenCodes
from sae_cli.dictionaries.relu import ReluObjective
from sae_cli.kernels.choice import bfloat16_is_fast
from sae_cli.training.density import window_ends


def relu(start):
    return ReluObjective(start.read, start.written, start.b_dec, True, 1.0)


@given(st.integers(1, 10**6), st.integers(1, 100))
def test_windows_cover_all_steps(steps, windows):
    ends = window_ends(steps, windows)
    assert len(ends) == min(steps, windows) and ends[-1] == steps
    assert all(a < b for a, b in zip([0, *ends], ends, strict=False))
    assert ends[0] == 1 or len(ends) == 1


def test_windows_are_even_on_a_log_scale():
    logs = np.diff([math.log(end) for end in window_ends(100_000, 40) if end > 50])
    assert logs.max() < 1.05 * logs.min()


@pytest.mark.parametrize("kernel", ["reference", "sparse", "auto"])
def test_counts_are_those_of_every_batch_encoded_by_hand(small, kernel):
    """Through both phases; entries within rounding of zero may be either. Dense steps can be in bfloat16."""
    coarse = kernel == "auto" and bfloat16_is_fast()
    data = small.batches(50)
    recipe = replace(small.recipe, kernel=kernel, density_windows=12)
    trainer = small.trainer(recipe, relu, data)
    by_hand, unsure = [], []
    for x in data:
        dictionary = trainer.dictionary()
        W, b, center = (each.double().numpy() for each in (dictionary.W_enc, dictionary.b_enc, dictionary.b_dec))
        if isinstance(trainer.objective, DecoderFit):
            assert trainer.step_number > 40
        pre = (x.double().numpy() - center) @ W.T + b
        by_hand.append((pre > 0).sum(axis=0))
        rounding = 2**-7 * (abs(x.double().numpy() - center) @ abs(W).T + abs(b)) if coarse else 1e-6
        unsure.append((abs(pre) < rounding).sum(axis=0))
        trainer.step(x)
    history = trainer.history()
    ends = history["step"].tolist()
    assert ends == window_ends(50, 12) and history["tokens"].sum() == 50 * 256
    assert coarse or np.sum(unsure) < 10
    for row, start, end in zip(history["count"].numpy(), [0, *ends], ends, strict=False):
        assert (abs(row - np.sum(by_hand[start:end], axis=0)) <= np.sum(unsure[start:end], axis=0)).all()
    assert history["count"].dtype == torch.int64


def test_frozen_codes_are_counted_too(small):
    data = small.batches(6)
    before = small.trainer(small.recipe, relu, data)
    in_training_units = before.dictionary().in_units_divided_by(1 / before.scale, 1 / before.scale)
    recipe = replace(small.recipe, steps=6, decoder_fit=0.0)
    trainer = small.trainer(recipe, lambda start: FrozenCodes(in_training_units), data)
    for x in data:
        trainer.step(x)
    expected = torch.stack([(in_training_units.encode(x * trainer.scale) > 0).sum(dim=0) for x in data]).sum(dim=0)
    assert torch.equal(trainer.history()["count"].sum(dim=0), expected)
