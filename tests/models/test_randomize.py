"""Randomized models of every supported architecture, against what each scheme promises."""

from __future__ import annotations

import copy
from itertools import chain

import pytest
import torch

from sae_cli.edits.randomize import is_tied, randomize
from sae_cli.models.load import fresh_model
from sae_cli.models.parts import find_parts


def randomized(model, scheme, keep=(), seed=0):
    hf = copy.deepcopy(model.hf)
    fresh = fresh_model(hf, seed) if scheme == "reinit" else None
    return hf, randomize(hf, find_parts(hf), fresh, scheme, keep, seed)


def by_name(hf):
    return {name: parameter.detach() for name, parameter in hf.named_parameters()}


@pytest.mark.parametrize("scheme", ["reinit", "gaussian", "permute"])
def test_the_output_differs_and_buffers_and_ties_stay(model, rows, scheme):
    hf, report = randomized(model, scheme)
    assert not torch.allclose(hf(rows).logits, model.hf(rows).logits, atol=0.1)
    assert is_tied(hf, find_parts(hf)) == is_tied(model.hf, model.parts)
    for name, buffer in model.hf.named_buffers():
        assert torch.equal(buffer, hf.get_buffer(name)), name
    assert [each.name for each in report] == list(by_name(model.hf))
    assert not any(each.kept for each in report)


@pytest.mark.parametrize("scheme", ["reinit", "gaussian", "permute"])
def test_same_seed_same_weights(model, scheme):
    first, again, other = (by_name(randomized(model, scheme, seed=seed)[0]) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_permuting_keeps_the_sorted_values(model):
    changed = by_name(randomized(model, "permute")[0])
    for name, before in by_name(model.hf).items():
        assert torch.equal(before.flatten().sort().values, changed[name].flatten().sort().values), name


def test_gaussian_numbers_have_each_tensors_mean_and_deviation(model):
    hf, report = randomized(model, "gaussian")
    for name, before in by_name(model.hf).items():
        after, n = by_name(hf)[name], before.numel()
        std = before.std(correction=0)
        assert (after.mean() - before.mean()).abs() <= 5 * std / n**0.5 + 1e-6, name
        assert (after.std(correction=0) - std).abs() <= 5 * std / (2 * n) ** 0.5 + 0.2 * std * (n < 40) + 1e-6, name
        (line,) = (each for each in report if each.name == name)
        torch.testing.assert_close(line.mean, (float(before.mean()), float(after.mean())), rtol=1e-4, atol=1e-6)


def test_reinit_is_the_models_own_initializer(model):
    """In what it draws: at its standard deviation; in what it sets: gains of one and biases of zero."""
    hf, _ = randomized(model, "reinit")
    expected = by_name(fresh_model(model.hf, 0))
    assert all(torch.equal(expected[name], parameter) for name, parameter in by_name(hf).items())
    deviations = torch.tensor([parameter.std() for parameter in by_name(hf).values() if parameter.ndim == 2])
    assert (deviations < 0.5).all() and 0 < deviations.median() < 0.1


@pytest.mark.parametrize("part", ["embed", "unembed", "norm"])
def test_what_is_kept_is_bit_identical_and_the_rest_is_as_without(model, part):
    kept_hf, report = randomized(model, "gaussian", keep=[part])
    kept, without, before = by_name(kept_hf), by_name(randomized(model, "gaussian")[0]), by_name(model.hf)
    names = {each.name for each in report if each.kept}
    assert all(torch.equal(kept[name], before[name]) for name in names)
    assert all(torch.equal(kept[name], without[name]) for name in before if name not in names)
    parts = model.parts
    modules = {
        "embed": parts.embeddings,
        "unembed": (parts.unembedding,),
        "norm": (parts.final_norm,),
    }[part]
    wanted = {id(parameter) for parameter in chain(*(module.parameters() for module in modules))}
    assert {name for name, p in model.hf.named_parameters() if id(p) in wanted} <= names
    assert len(names) < len(before)
