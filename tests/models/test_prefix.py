"""Branches off one pass: bit for bit the logits of whole passes, for every architecture, without the part before."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sae_cli.config.hook import HookPoint
from sae_cli.errors import RequestError
from sae_cli.models import Site

TAPPED = [hook for hook in HookPoint if hook.place.part is not None]
"""Hook points that are somewhere in a block; the others are computed from these, or named by a path."""


def all_sites(model):
    return [Site(hook, layer) for layer in range(model.n_layers) for hook in TAPPED] + [Site(HookPoint.resid, -1)]


def halves(activations):
    return activations / 2


def test_branches_are_whole_passes(model, rows):
    clean = model.logits(rows)
    for site in all_sites(model):
        found, replaced = model.branches(rows, site)
        assert torch.equal(found, clean)
        for visitor in (torch.zeros_like, halves, lambda activations: activations.flip(0), torch.zeros_like):
            assert torch.equal(replaced(visitor), model.logits(rows, {site: visitor})), site
    assert torch.equal(model.logits(rows), clean)


def test_other_rows_are_another_pass(model, rows):
    site = Site(HookPoint.mlp_out, 0)
    model.branches(rows, site)
    other = rows.flip(0)[:1, 1:]
    _, replaced = model.branches(other, site)
    assert torch.equal(replaced(halves), model.logits(other, {site: halves}))


def flops(call):
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def test_a_branch_costs_what_lies_after_the_site(model, rows):
    whole, _ = flops(lambda: model.logits(rows))
    for site in all_sites(model):
        before, _ = flops(lambda site=site: model.capture(rows, [site]))
        _, replaced = model.branches(rows, site)
        after, _ = flops(lambda replaced=replaced: replaced(halves))
        assert after == whole - before, site
    assert flops(lambda: model.branches(rows, Site(HookPoint.resid, 0)))[0] == whole


def test_an_error_leaves_the_model_as_it_was(model, rows):
    site = Site(HookPoint.resid, 0)
    clean, replaced = model.branches(rows, site)

    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replaced(fail)
    assert torch.equal(model.logits(rows), clean)
    assert not any("forward" in vars(module) for module in model.hf.modules())
    with pytest.raises(RequestError, match="layer=9"):
        model.branches(rows, Site(HookPoint.resid, 9))


def test_what_is_watched_is_seen_once(model, rows):
    seen = []
    site, other = Site(HookPoint.mlp_out, 0), Site(HookPoint.resid, 1)
    _, replaced = model.branches(rows, site, {other: lambda activations: seen.append(1) or activations})
    replaced(halves)
    assert seen == [1]
