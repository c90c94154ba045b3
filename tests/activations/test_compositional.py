"""Objects made of attributes: two explanations of the same activations, both exact."""

from dataclasses import replace

import numpy as np
import torch

from sae_cli.activations.compositional import CompositionalActivations
from sae_cli.activations.truth import BLOCK
from sae_cli.config.data import CompositionalData
from sae_cli.config.split import Split

TRUTH = CompositionalActivations.of(CompositionalData(d=48, n_objects=20, slots=3, values=4))


def coded(truth, n_blocks=8):
    blocks = [truth.coded_block(Split.train, number) for number in range(n_blocks)]
    x = torch.cat([each.block.activations for each in blocks]).double()
    return x, torch.cat([each.codes.to_dense(each.codes.values) for each in blocks]).double()


def test_every_token_has_one_attribute_of_each_slot_at_one_strength():
    x, f = coded(TRUTH)
    torch.testing.assert_close(x, f @ TRUTH.directions().double(), atol=1e-5, rtol=0)
    slots = f.view(-1, 3, 4)
    assert ((slots > 0).sum(dim=2) == 1).all()
    strength = slots.sum(dim=2)
    assert (strength == strength[:, :1]).all() and strength.min() >= 0.5 and strength.max() <= 1.5


def test_objects_are_different_and_shown_as_often_as_they_should():
    _, f = coded(TRUTH)
    objects = TRUTH.objects()
    assert objects.shape == (20, 3) and len({tuple(each) for each in objects.tolist()}) == 20
    assert ((objects // 4) == torch.arange(3)).all()
    kinds, count = np.unique((f > 0).numpy(), axis=0, return_counts=True)
    shares = zip(objects.tolist(), TRUTH.object_frequencies().tolist(), strict=True)
    known = {tuple(sorted(each)): share for each, share in shares}
    assert len(kinds) == 20
    for kind, n in zip(kinds, count, strict=True):
        expected = known[tuple(np.flatnonzero(kind))] * len(f)
        assert abs(n - expected) < 5 * expected**0.5
    share = (f > 0).double().mean(dim=0)
    p = TRUTH.frequencies()
    assert abs(p.sum().item() - 3) < 1e-12
    assert ((share - p).abs() <= 5 * (p / len(f)).sqrt()).all()


def test_one_atom_an_object_explains_the_same():
    x, _ = coded(TRUTH, 1)
    atoms = TRUTH.directions().double()[TRUTH.objects()].sum(dim=1)
    atoms /= atoms.norm(dim=1, keepdim=True)
    best = (x @ atoms.T).max(dim=1)
    torch.testing.assert_close(best.values[:, None] * atoms[best.indices], x, atol=1e-4, rtol=0)


def test_noise_splits_and_blocks():
    noisy = replace(TRUTH, noise=0.1)
    x, f = coded(noisy)
    error = x - f @ noisy.directions().double()
    assert abs(error.std().item() - 0.1) < 0.001
    one, two = next(noisy.blocks(Split.train, BLOCK)), list(noisy.coded_blocks(Split.train, 2 * BLOCK))[1].block
    assert torch.equal(one.activations, two.activations) and torch.equal(one.position, two.position)
    held_out = next(noisy.blocks(Split.held_out)).activations
    assert not torch.equal(next(noisy.blocks(Split.train)).activations, held_out)
