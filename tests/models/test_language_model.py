"""Capturing and replacing activations, for every architecture, hook point and layer."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from sae_cli.config.hook import HookPoint
from sae_cli.errors import RequestError
from sae_cli.models import LanguageModel, Site

equal_to_1e5 = partial(assert_close, rtol=1e-5, atol=1e-5)

TAPPED = [hook for hook in HookPoint if hook.place.part is not None]
"""Hook points that are somewhere in a block; the others are computed from these, or named by a path."""


def all_sites(model: LanguageModel) -> list[Site]:
    return [Site(hook, layer) for layer in range(model.n_layers) for hook in TAPPED] + [Site(HookPoint.resid, -1)]


def n_hooks(model: LanguageModel) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.hf.modules())


def zeros(activations: Tensor) -> Tensor:
    return torch.zeros_like(activations)


@pytest.fixture
def calls(model):
    """Counts calls of attentions, MLP down-projections and the unembedding while a test runs."""
    counts: Counter[str] = Counter()
    named: dict[str, nn.Module] = {"unembedding": model.parts.unembedding}
    for layer, block in enumerate(model.parts.blocks):
        named |= {f"attn.{layer}": block.attn_out, f"down.{layer}": block.down_projection}
    handles = [
        module.register_forward_pre_hook(lambda *_, name=name: counts.update([name])) for name, module in named.items()
    ]
    yield counts
    for handle in handles:
        handle.remove()


def test_captured_shapes_and_widths(model, rows):
    for site, activations in model.capture(rows, all_sites(model)).items():
        assert activations.shape == (2, 9, model.width(site))
        assert activations.dtype == model.dtype
    assert model.width(Site(HookPoint.mlp_act, 0)) == 48
    assert model.width(Site(HookPoint.mlp_out, 0)) == 32


def test_resid_is_the_hidden_state_that_transformers_gives(model, rows):
    hidden = model.hf(rows, output_hidden_states=True, use_cache=False).hidden_states
    assert len(hidden) == model.n_layers + 1
    resid = model.capture(rows, [Site(HookPoint.resid, layer) for layer in range(-1, model.n_layers)])
    for layer in range(-1, model.n_layers - 1):
        assert_close(resid[Site(HookPoint.resid, layer)], hidden[layer + 1], rtol=0, atol=0)
    # The last of them is after the final norm.
    final = model.parts.final_norm(resid[Site(HookPoint.resid, model.n_layers - 1)])
    for projection in model.parts.output_projections:
        final = projection(final)
    equal_to_1e5(final, hidden[-1])


def test_updates_add_up(model, rows):
    activations = model.capture(rows, all_sites(model))
    for layer in range(model.n_layers):
        updates = activations[Site(HookPoint.attn_out, layer)] + activations[Site(HookPoint.mlp_out, layer)]
        before = activations[Site(HookPoint.resid, layer - 1)]
        equal_to_1e5(before + updates, activations[Site(HookPoint.resid, layer)])


def test_one_site_at_a_time_is_the_same_as_all_at_once(model, rows):
    together = model.capture(rows, all_sites(model))
    for site in all_sites(model):
        alone = model.capture(rows, [site])
        assert list(alone) == [site]
        assert_close(alone[site], together[site], rtol=0, atol=0)


def test_logits_without_replacements_are_the_models_own(model, rows):
    assert_close(model.logits(rows), model.hf(rows, use_cache=False).logits, rtol=0, atol=0)


def test_replacing_with_what_was_captured_changes_nothing(model, rows):
    clean = model.logits(rows)
    activations = model.capture(rows, all_sites(model))
    for site in all_sites(model):
        replaced = model.logits(rows, {site: lambda _, site=site: activations[site].clone()})
        equal_to_1e5(replaced, clean)
    everywhere = {site: lambda _, site=site: activations[site].clone() for site in all_sites(model)}
    equal_to_1e5(model.logits(rows, everywhere), clean)


def test_replacing_with_another_rows_activations_gives_its_logits(model, rows):
    """At `resid` the activations decide everything that follows."""
    other = rows.flip(0)
    for layer in range(-1, model.n_layers):
        site = Site(HookPoint.resid, layer)
        swapped = model.logits(rows, {site: lambda activations: activations.flip(0)})
        equal_to_1e5(swapped, model.logits(other))


def test_replacing_with_zeros_changes_the_logits(model, rows):
    clean = model.logits(rows)
    for site in all_sites(model):
        assert (model.logits(rows, {site: zeros}) - clean).abs().max() > 1e-2, site


def test_replacement_is_what_the_rest_of_the_model_sees(model, rows):
    """Without its MLP's update, a block adds the attention's only; the attention is left as it was."""
    clean = model.capture(rows, all_sites(model))
    seen: dict[Site, Tensor] = {}

    def record(site: Site):
        return lambda activations: seen.setdefault(site, activations)

    attn_out, mlp_out, resid = (Site(hook, 1) for hook in (HookPoint.attn_out, HookPoint.mlp_out, HookPoint.resid))
    model.logits(rows, {mlp_out: zeros, resid: record(resid), attn_out: record(attn_out)})
    assert_close(seen[attn_out], clean[attn_out], rtol=0, atol=0)
    equal_to_1e5(seen[resid], clean[Site(HookPoint.resid, 0)] + clean[attn_out])


def test_zero_mlp_act_leaves_the_bias_and_the_other_parts(model, rows):
    clean = model.capture(rows, all_sites(model))
    attn_out, mlp_act, mlp_out = (Site(hook, 1) for hook in (HookPoint.attn_out, HookPoint.mlp_act, HookPoint.mlp_out))
    seen: dict[Site, Tensor] = {}
    record = {site: lambda x, site=site: seen.setdefault(site, x) for site in (attn_out, mlp_out)}
    model.logits(rows, {mlp_act: zeros, **record})
    assert_close(seen[attn_out], clean[attn_out], rtol=0, atol=0)
    block = model.parts.blocks[1]
    bias = getattr(block.down_projection, "bias", None)
    update = torch.zeros(2, 9, 32) if bias is None else bias.expand(2, 9, 32)
    # A norm without bias keeps zeros at zero.
    equal_to_1e5(seen[mlp_out], update)


def test_several_replacements_apply_in_forward_order(llama, rows):
    order: list[Site] = []
    sites = all_sites(llama)

    def visit(site: Site):
        return lambda activations: (order.append(site), activations)[1]

    llama.logits(rows, {site: visit(site) for site in reversed(sites)})
    in_block = [HookPoint.attn_out, HookPoint.mlp_act, HookPoint.mlp_out, HookPoint.resid]
    assert order == [Site(HookPoint.resid, -1), *(Site(hook, layer) for layer in range(3) for hook in in_block)]


def test_capture_runs_only_what_it_needs(model, rows, calls):
    model.capture(rows, [Site(HookPoint.resid, -1)])
    assert calls == {}
    for hook in TAPPED:
        model.capture(rows, [Site(hook, 0)])
    assert set(calls) == {"attn.0", "down.0"}
    calls.clear()
    model.capture(rows, [Site(HookPoint.resid, 1), Site(HookPoint.attn_out, 0)])
    assert calls == {"attn.0": 1, "down.0": 1, "attn.1": 1, "down.1": 1}
    calls.clear()
    model.capture(rows, all_sites(model))
    assert set(calls) == {f"{part}.{layer}" for part in ("attn", "down") for layer in range(model.n_layers)}


def test_capturing_nothing_runs_nothing(model, rows, calls):
    assert model.capture(rows, []) == {}
    assert calls == {}


def test_hooks_are_removed(model, rows):
    before = n_hooks(model)
    model.capture(rows, all_sites(model))
    model.logits(rows, dict.fromkeys(all_sites(model), zeros))

    def fail(_: Tensor) -> Tensor:
        raise ZeroDivisionError

    for site in (Site(HookPoint.resid, -1), *(Site(hook, 1) for hook in TAPPED)):
        with pytest.raises(ZeroDivisionError):
            model.logits(rows, {Site(HookPoint.resid, 0): zeros, site: fail})
    with pytest.raises(RequestError):
        model.capture(rows, [Site(HookPoint.resid, 0), Site(HookPoint.resid, 9)])
    assert n_hooks(model) == before


def test_capture_leaves_the_model_as_it_was(model, rows):
    state = {name: value.clone() for name, value in model.hf.state_dict().items()}
    clean = model.logits(rows)
    model.capture(rows, all_sites(model))
    model.logits(rows, dict.fromkeys(all_sites(model), zeros))
    assert_close(model.logits(rows), clean, rtol=0, atol=0)
    assert_close(dict(model.hf.state_dict()), state, rtol=0, atol=0)


def test_model_is_frozen_and_captures_can_be_trained_on(llama, rows):
    assert not llama.hf.training
    assert not any(parameter.requires_grad for parameter in llama.hf.parameters())
    x = llama.capture(rows, [Site(HookPoint.mlp_out, 0)])[Site(HookPoint.mlp_out, 0)]
    weight = torch.ones(32, requires_grad=True)
    (x * weight).sum().backward()
    assert weight.grad is not None
    assert_close(weight.grad, x.sum((0, 1)))


@pytest.mark.parametrize(
    ("replacement", "message"),
    [(lambda x: x[..., :-1], "shape"), (lambda x: x[:1], "shape"), (lambda x: x.double(), "dtype")],
)
def test_a_replacement_of_another_shape_or_dtype_is_a_mistake_in_the_code(llama, rows, replacement, message):
    with pytest.raises(AssertionError, match=f"replacement has {message}"):
        llama.logits(rows, {Site(HookPoint.resid, 0): replacement})


@pytest.mark.parametrize(
    ("site", "valid"),
    [
        (Site(HookPoint.mlp_out, 3), "from 0 to 2"),
        (Site(HookPoint.mlp_act, -1), "from 0 to 2"),
        (Site(HookPoint.attn_out, -2), "from 0 to 2"),
        (Site(HookPoint.resid, -2), "from -1 to 2"),
        (Site(HookPoint.resid, 3), "from -1 to 2"),
    ],
)
def test_layer_out_of_range_says_which_there_are(llama, rows, site, valid):
    for request in (
        lambda: llama.check_site(site),
        lambda: llama.width(site),
        lambda: llama.capture(rows, [site]),
        lambda: llama.logits(rows, {site: zeros}),
    ):
        with pytest.raises(RequestError) as error:
            request()
        message = str(error.value)
        assert f"hook={site.hook.name} layer={site.layer}: expected a layer {valid}" in message
        assert "mlp_act, mlp_out, attn_out, resid" in message
        assert "3 blocks" in message


def test_rows_that_the_model_does_not_take(llama):
    with pytest.raises(RequestError, match=r"context=25: expected at most 24 tokens a row.*smaller context"):
        llama.logits(torch.zeros(1, 25, dtype=torch.int64))
    with pytest.raises(RequestError, match=r"expected ids below 100.*found 100;.*own tokenizer"):
        llama.capture(torch.full((1, 4), 100), [Site(HookPoint.resid, 0)])
    assert llama.logits(torch.full((1, 24), 99)).shape == (1, 24, 100)
