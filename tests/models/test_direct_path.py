"""Replacements on the direct path and on all paths, for every hook and every architecture."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sae_cli.config.hook import HookPoint, LogitMode
from sae_cli.models import DirectPath, Site
from tests.models.conftest import logit_factor


def sites(layer):
    for hook in HookPoint:
        if hook is HookPoint.module:
            continue  # from which no way to the logits is known
        if hook is HookPoint.logit_update:
            yield from (Site(hook, layer, mode) for mode in LogitMode)
        else:
            yield Site(hook, layer)


def name(site):
    return "-".join([site.hook.value] + ([site.mode.value] if site.mode else []))


def site_in(model, site, layer):
    return site._replace(layer=model.n_layers - 1 if site.hook is HookPoint.logits else layer)


def record(captured, key, activations):
    captured[key] = activations
    return activations


def add(change, activations):
    return activations + change


def clean_run(model, rows, site):
    captured, target = {}, model.target(site)
    visitors = {tap: partial(record, captured, tap) for tap in {*target.taps, model.end.final_resid}}
    return target, captured, model.outputs(rows, visitors)


def direct(model, target, values, seen, clean):
    """The logits with `values` on the direct path."""
    change = target.normalized(values, seen) - target.normalized(target.read(seen), seen)
    return DirectPath(model).outputs(clean, torch.zeros_like(change), {"": change})[""].all()


every_hook = pytest.mark.parametrize("hook", list(sites(1)), ids=name)


@every_hook
def test_what_is_there_changes_nothing(model, rows, hook):
    """On the direct path, and on all paths where the hook has them: an identity dictionary."""
    target, seen, clean = clean_run(model, rows, site_in(model, hook, 1))
    x = target.read(seen)
    torch.testing.assert_close(direct(model, target, x.clone(), seen, clean), clean.all(), atol=1e-5, rtol=1e-5)
    if target.replaced is not None:
        put = target.put(x.clone(), seen)
        torch.testing.assert_close(
            model.logits(rows, {target.replaced: lambda _: put}), clean.all(), atol=1e-5, rtol=1e-5
        )


def test_constants_take_one_product_and_are_what_they_are(model, rows):
    target, seen, clean = clean_run(model, rows, Site(HookPoint.mlp_out, 0))
    there = target.normalized(target.read(seen), seen)
    random = torch.randn(there.shape[-1], generator=torch.Generator().manual_seed(0))
    instead = {
        name: target.normalized(value.expand_as(there), seen)
        for name, value in ((n, k * random) for n, k in (("zero", 0.0), ("mean", 1.0)))
    }
    instead["other"] = there.flip(0)
    path = DirectPath(model)
    together = path.outputs(clean, there, instead)
    for name, values in instead.items():
        alone = path.outputs(clean, there, {name: values})[name].all()
        torch.testing.assert_close(together[name].all(), alone, atol=2e-5, rtol=1e-5)
    with FlopCounterMode(display=False) as counter:
        together["mean"](torch.arange(rows.numel()))
    with FlopCounterMode(display=False) as of_one:
        path.outputs(clean, there, {"zero": instead["zero"]})["zero"](torch.arange(rows.numel()))
    vocabulary = 2 * model.parts.vocab_size * model.d_model
    assert counter.get_total_flops() - of_one.get_total_flops() <= vocabulary


@every_hook
def test_a_small_change_in_the_last_block_has_its_true_effect(model, rows, hook):
    """There the direct path is the only one (attention of a sequential block apart), to first order."""
    if hook.hook is HookPoint.attn_out:
        pytest.skip("the block's own MLP reads it")
    if hook.hook is HookPoint.logit_update and model.parts.output_projections:
        pytest.skip("a narrow unembedding shows updates of mean zero only up to ones that are not")
    target, seen, clean = clean_run(model, rows, site_in(model, hook, model.n_layers - 1))
    if target.replaced is None:
        pytest.skip("acts on the direct path only")
    x = target.read(seen)
    h, direction = 1e-3, torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    if hook.hook is HookPoint.logit_update:  # a change that an update can make
        direction = model.end.logit_space.coordinates(model.end.final_norm(direction))
    puts = [target.put(x + s * h * direction, seen) for s in (1, -1)]
    up, down = (model.logits(rows, {target.replaced: lambda _, put=put: put}) for put in puts)
    true_slope = (up - down) / (2 * h)
    change = (target.normalized(x + direction, seen) - target.normalized(x - direction, seen)) / 2
    if hook.hook is HookPoint.mlp_act and model.parts.family.post_norms:
        # The post-norm is not linear: the slope at x.
        change = (target.normalized(x + h * direction, seen) - target.normalized(x - h * direction, seen)) / (2 * h)
    if not isinstance(model.parts.final_norm, nn.Identity):
        # The model's own norm also rescales: the part along the normalized residual stream is lost.
        resid = model.end.final_norm(seen[model.end.final_resid])
        change = change - resid * (resid * change).mean(dim=-1, keepdim=True)
    path = DirectPath(model)
    zero = torch.zeros_like(change)
    direct_up, direct_down = (path.outputs(clean, zero, {"": s * h * change})[""].all() for s in (1, -1))
    slope = (direct_up - direct_down) / (2 * h)
    torch.testing.assert_close(slope, true_slope, atol=2e-2 * true_slope.abs().max().item(), rtol=2e-2)


def uncapped_logits(model, resid):
    normed = model.parts.final_norm(resid)
    for projection in model.parts.output_projections:
        normed = projection(normed)
    return model.parts.unembedding(normed) * logit_factor(model)


def capped(model, logits):
    cap = model.parts.logit_soft_cap
    return logits if cap is None else cap * torch.tanh(logits / cap)


def test_no_update_on_the_direct_path_is_the_stream_without_it(model, rows):
    """The exact mode with ŷ = 0: logits of r_L - u, up to the constant over the vocabulary that coordinates leave."""
    target, seen, clean = clean_run(model, rows, Site(HookPoint.logit_update, 1, LogitMode.exact))
    found = direct(model, target, torch.zeros_like(target.read(seen)), seen, clean)
    without = seen[model.end.final_resid] - seen[Site(HookPoint.mlp_out, 1)]
    expected = capped(model, uncapped_logits(model, without))
    if model.parts.output_projections:
        # The pseudo-inverse does not see the constant that a narrow unembedding adds.
        found, expected = (each - each.mean(dim=-1, keepdim=True) for each in (found, expected))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_logits_replaced_by_zero_are_the_biases(model, rows):
    target, seen, clean = clean_run(model, rows, Site(HookPoint.logits, model.n_layers - 1))
    found = direct(model, target, torch.zeros_like(target.read(seen)), seen, clean)
    nothing = getattr(model.parts.final_norm, "bias", None)
    nothing = torch.zeros(model.d_model) if nothing is None else nothing
    for module in (*model.parts.output_projections, model.parts.unembedding):
        nothing = module(nothing)
    expected = capped(model, nothing.expand_as(found))
    if model.parts.output_projections:
        found, expected = (each - each.mean(dim=-1, keepdim=True) for each in (found, expected))
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_a_change_of_the_mlp_behind_a_post_norm_is_what_the_norm_makes_of_it(model, rows):
    if not model.parts.family.post_norms:
        pytest.skip("no post-norm")
    site = Site(HookPoint.mlp_act, 1)
    target, seen, _ = clean_run(model, rows, site)
    there = {}
    model.logits(rows, {site: partial(add, 0.3), Site(HookPoint.mlp_out, 1): partial(record, there, "moved")})
    found = target.resid(seen[site] + 0.3, seen)
    torch.testing.assert_close(found, there["moved"], atol=1e-5, rtol=1e-5)
