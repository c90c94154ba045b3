"""The direct path against perturbations made by hand, for every architecture."""

from functools import partial

import pytest
import torch
from torch import nn

from sae_cli.config.hook import HookPoint
from sae_cli.models import DirectPath, Site


def record(captured, key, activations):
    captured[key] = activations
    return activations


def add(change, activations):
    return activations + change


def clean_run(model, rows, site):
    captured = {}
    last = Site(HookPoint.resid, model.n_layers - 1)
    visitors = {last: partial(record, captured, last), site: partial(record, captured, site)}
    logits = model.logits(rows, visitors)
    return captured[site], captured[last], logits


@pytest.mark.parametrize("hook", list(HookPoint))
def test_no_change_changes_nothing(model, rows, hook):
    site = Site(hook, 1)
    if not DirectPath.exists(model, site):
        pytest.skip("no linear map under a post-norm")
    x, final_resid, logits = clean_run(model, rows, site)
    path = DirectPath(model, site)
    state = path.final_state(final_resid, logits)
    unchanged = path.logits(path.normalised(path.to_resid(torch.zeros_like(x)), state), state)
    torch.testing.assert_close(unchanged, logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("hook", list(HookPoint))
def test_a_small_change_in_the_last_block_has_its_true_effect(model, rows, hook):
    """There the direct path is the only one (attention of a sequential block apart), to first order."""
    if hook is HookPoint.attn_out:
        pytest.skip("the block's own MLP reads it")
    site = Site(hook, model.n_layers - 1)
    if not DirectPath.exists(model, site):
        pytest.skip("no linear map under a post-norm")
    x, final_resid, logits = clean_run(model, rows, site)
    path = DirectPath(model, site)
    state = path.final_state(final_resid, logits)
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape, generator=generator)
    h = 1e-3
    up, down = (model.logits(rows, {site: partial(add, s * h * direction)}) for s in (1, -1))
    true_slope = (up - down) / (2 * h)
    change = path.normalised(path.to_resid(direction), state)
    if not isinstance(model.parts.final_norm, nn.Identity):
        # The model's own norm also rescales: the part along the normalised residual stream is lost.
        resid = path.normalised(final_resid.float(), state)
        change = change - resid * (resid * change).mean(dim=-1, keepdim=True)
    direct_up, direct_down = (path.logits(s * h * change, state) for s in (1, -1))
    slope = (direct_up - direct_down) / (2 * h)
    torch.testing.assert_close(slope, true_slope, atol=2e-2 * true_slope.abs().max().item(), rtol=2e-2)


def test_gram_is_the_norm_in_centred_logits(model):
    path = DirectPath(model, Site(HookPoint.mlp_out, 0))
    z = torch.randn(7, model.d_model, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = z @ path.W.double().T
    centred = logits - logits.mean(dim=1, keepdim=True)
    found = ((z @ path.centred_gram()) * z).sum(dim=1)
    torch.testing.assert_close(found, centred.square().sum(dim=1), rtol=1e-9, atol=1e-9)
