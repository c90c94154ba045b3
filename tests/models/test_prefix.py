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
        assert torch.equal(found.all(), clean)
        for visitor in (torch.zeros_like, halves, lambda activations: activations.flip(0), torch.zeros_like):
            assert torch.equal(replaced(visitor).all(), model.logits(rows, {site: visitor})), site
    assert torch.equal(model.logits(rows), clean)


def test_other_rows_are_another_pass(model, rows):
    site = Site(HookPoint.mlp_out, 0)
    model.branches(rows, site)
    other = rows.flip(0)[:1, 1:]
    _, replaced = model.branches(other, site)
    assert torch.equal(replaced(halves).all(), model.logits(other, {site: halves}))


def flops(call):
    with FlopCounterMode(display=False) as counter:
        result = call()
    return counter.get_total_flops(), result


def test_a_branch_costs_what_lies_after_the_site(model, rows):
    whole, _ = flops(lambda: model.logits(rows))
    for site in all_sites(model):
        before, _ = flops(lambda site=site: model.capture(rows, [site]))
        _, replaced = model.branches(rows, site)
        after, _ = flops(lambda replaced=replaced: replaced(halves).all())
        assert after == whole - before, site
    assert flops(lambda: model.branches(rows, Site(HookPoint.resid, 0))[0].all())[0] == whole


def test_logits_at_some_positions_are_those_of_the_whole(model, rows):
    whole = model.logits(rows).flatten(0, 1)
    outputs = model.outputs(rows)
    assert outputs.n_logits == whole.shape[1]
    for where in (torch.tensor([3, 0, len(whole) - 1]), torch.arange(len(whole)), torch.tensor([], dtype=torch.long)):
        torch.testing.assert_close(outputs(where), whole[where], atol=1e-5, rtol=1e-5)


def test_an_end_that_no_one_asks_is_not_unembedded(model, rows):
    unembedding = sum(each.numel() for each in model.parts.unembedding.parameters() if each.dim() == 2)
    counted = 2 * unembedding * rows.numel()
    assert flops(lambda: model.outputs(rows))[0] == flops(lambda: model.logits(rows))[0] - counted


def test_an_error_leaves_the_model_as_it_was(model, rows):
    site = Site(HookPoint.resid, 0)
    clean, replaced = model.branches(rows, site)

    def fail(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        replaced(fail)
    assert torch.equal(model.logits(rows), clean.all())
    assert not any("forward" in vars(module) for module in model.hf.modules())
    with pytest.raises(RequestError, match="layer=9"):
        model.branches(rows, Site(HookPoint.resid, 9))


def test_what_is_watched_is_seen_once(model, rows):
    seen = []
    site, other = Site(HookPoint.mlp_out, 0), Site(HookPoint.resid, 1)
    _, replaced = model.branches(rows, site, {other: lambda activations: seen.append(1) or activations})
    replaced(halves)
    assert seen == [1]
