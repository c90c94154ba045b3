"""Logit coordinates against explicit logits of vocabulary width, in float64, for every architecture."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from sae_cli.config.hook import HookPoint, LogitMode
from sae_cli.models import LanguageModel, Site
from tests.models.conftest import logit_factor, no_tokenizer

equal_to_1e9 = partial(assert_close, rtol=1e-9, atol=1e-9)


@pytest.fixture
def exact(model) -> LanguageModel:
    """The architecture in float64, whose coordinates are made of the same numbers as its logits."""
    return LanguageModel(copy.deepcopy(model.hf).double(), no_tokenizer)


def normed(model: LanguageModel, resid: Tensor, scale_of: Tensor | None = None) -> Tensor:
    """The final norm in float64, written out: transformers' RMS norms compute in float32 whatever they are given."""
    norm, scale_of = model.parts.final_norm, resid if scale_of is None else scale_of
    if isinstance(norm, torch.nn.Identity):
        return resid
    if isinstance(norm, torch.nn.LayerNorm) or "cohere" in model.hf.config.model_type:
        scale = (scale_of.var(dim=-1, correction=0, keepdim=True) + epsilon(norm)).sqrt()
        return (resid - resid.mean(dim=-1, keepdim=True)) / scale * norm.get_parameter("weight")
    gemma = any(name in model.hf.config.model_type for name in ("gemma", "qwen3_5"))
    eps = model.hf.config.get_text_config().rms_norm_eps
    return resid / (scale_of.square().mean(dim=-1, keepdim=True) + eps).sqrt() * (norm.get_parameter("weight") + gemma)


def epsilon(norm: torch.nn.Module) -> float:
    return next(getattr(norm, name) for name in ("eps", "variance_epsilon") if hasattr(norm, name))


def bias(module: torch.nn.Module) -> Tensor | float:
    """Of a norm or a linear map; 0 where it has none."""
    found = getattr(module, "bias", None)
    return 0.0 if found is None else found


def uncapped_logits(model: LanguageModel, resid: Tensor) -> Tensor:
    """Final norm and its bias, projections, head and its bias, before any soft cap."""
    logits = normed(model, resid) + bias(model.parts.final_norm)
    for module in (*model.parts.output_projections, model.parts.unembedding):
        logits = module(logits)
    return logits * logit_factor(model)


def test_norm_written_out_is_the_models_own(exact):
    resid, _ = some_resid(exact)
    assert_close(
        normed(exact, resid) + bias(exact.parts.final_norm), exact.parts.final_norm(resid), rtol=1e-5, atol=1e-5
    )


def centered(logits: Tensor) -> Tensor:
    return logits - logits.mean(dim=-1, keepdim=True)


def some_resid(model: LanguageModel) -> tuple[Tensor, Tensor]:
    """A final residual stream and an update that is part of it, neither of mean zero."""
    resid, update = torch.randn(2, 3, 7, model.d_model, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return resid + 0.3, update - 0.2


def read(model: LanguageModel, site: Site) -> Tensor:
    resid, update = some_resid(model)
    seen = {model.end.final_resid: resid, Site(HookPoint.mlp_out, site.layer): update}
    return model.target(site).read(seen)


def assert_isometric(y: Tensor, logits: Tensor) -> None:
    """All lengths, distances and angles agree."""
    y, logits = y.flatten(0, 1), centered(logits).flatten(0, 1)
    equal_to_1e9(y @ y.T, logits @ logits.T)


def directions_in_logits(model: LanguageModel) -> Tensor:
    """W_c S⁺ (V, D)."""
    return centered((model.end.logit_space.W.double() @ model.end.logit_space.S_inverse).T).T


def test_exact_update_is_the_change_of_the_logits(exact):
    resid, update = some_resid(exact)
    y = read(exact, Site(HookPoint.logit_update, 1, LogitMode.exact))
    change = uncapped_logits(exact, resid) - uncapped_logits(exact, resid - update)
    assert_isometric(y, change)
    equal_to_1e9(y @ directions_in_logits(exact).T, centered(change))


def test_linear_update_is_the_change_with_the_scale_frozen(exact):
    """The derivative of the logits in the update's direction, with the norm's scale held by hand."""
    resid, update = some_resid(exact)
    y = read(exact, Site(HookPoint.logit_update, 1, LogitMode.linear))
    change = normed(exact, update, scale_of=resid)
    for module in (*exact.parts.output_projections, exact.parts.unembedding):
        change = change @ module.weight.T
    assert_isometric(y, change * logit_factor(exact))


def test_distances_of_logits_are_exact(exact):
    """The constant that biases add stays outside."""
    resid, _ = some_resid(exact)
    y = read(exact, Site(HookPoint.logits, exact.n_layers - 1))
    logits = uncapped_logits(exact, resid)
    assert_isometric(y - y[:1, :1], logits - logits[:1, :1])


def test_columns_of_the_way_back_are_orthonormal(exact):
    directions = directions_in_logits(exact)
    singular = torch.linalg.svdvals(directions)
    rank = int(torch.linalg.matrix_rank(exact.parts.W_U() * exact.parts.final_norm_gain(), rtol=1e-6))
    equal_to_1e9(singular[:rank], torch.ones(rank, dtype=torch.float64))
    assert rank in (exact.d_model, exact.d_model // 2)  # OPT's projection halves it
    assert singular[rank:].abs().max() < 1e-6 if rank < exact.d_model else True


def test_coordinates_are_unique(exact):
    """The root is symmetric: no choice of signs or of bases is in it."""
    S = exact.end.logit_space.S
    assert_close(S, S.T, rtol=0, atol=1e-12)
    assert float(torch.linalg.eigvalsh(S).min()) > -1e-9


def test_uncentred_logits_are_another_norm(exact):
    """Were the constant over the vocabulary not left out, lengths would differ."""
    resid, update = some_resid(exact)
    change = uncapped_logits(exact, resid) - uncapped_logits(exact, resid - update)
    y = read(exact, Site(HookPoint.logit_update, 1, LogitMode.exact))
    assert not torch.allclose(y.norm(dim=-1), change.norm(dim=-1), rtol=1e-3)


@pytest.mark.parametrize("mode", LogitMode)
def test_captured_in_a_real_run(model, rows, mode):
    """`capture` gives what the definition says of the activations of that run."""
    site, update = Site(HookPoint.logit_update, 1, mode), Site(HookPoint.mlp_out, 1)
    captured = model.capture(rows, [site, update, model.end.final_resid])
    alone = model.capture(rows, [site])
    assert torch.equal(alone[site], captured[site])
    resid, u = captured[model.end.final_resid].double(), captured[update].double()
    reference = LanguageModel(copy.deepcopy(model.hf).double(), no_tokenizer)
    expected = reference.target(site).read({model.end.final_resid: resid, update: u})
    assert_close(captured[site].double(), expected, rtol=1e-4, atol=1e-4)


def test_nothing_after_the_last_block_is_run(model, rows):
    """Of the logit hooks too: the unembedding is not needed to read them."""
    calls = []
    handle = model.parts.unembedding.register_forward_hook(lambda *_: calls.append(1))
    try:
        model.capture(rows, [Site(HookPoint.logits, model.n_layers - 1), Site(HookPoint.logit_update, 0)])
    finally:
        handle.remove()
    assert not calls


def record(captured, site, activations):
    captured[site] = activations
    return activations


def test_a_known_change_of_the_update_changes_the_logits_as_computed_by_hand(model, rows):
    """ŷ = y + S e_1·t in the linear mode moves the update by σ t e_1 (less its mean), in the model itself."""
    site = Site(HookPoint.logit_update, 1, LogitMode.linear)
    target, captured = model.target(site), {}
    model.logits(rows, {tap: partial(record, captured, tap) for tap in target.taps})
    y = target.read(captured)
    direction = torch.zeros(model.d_model)
    direction[1] = 0.5
    if model.parts.output_projections:
        # What the narrow unembedding cannot show is not written.
        direction = model.end.logit_space.normalized(model.end.logit_space.coordinates(direction.double())).float()
    put = target.put(y + model.end.logit_space.coordinates(direction.double()).float(), captured)
    resid = captured[model.end.final_resid]
    if model.parts.final_norm_centers:
        scale = (resid.var(dim=-1, correction=0, keepdim=True) + epsilon(model.parts.final_norm)).sqrt()
        direction = direction - direction.mean()
    else:
        scale = model.end.final_norm.scale(resid)
    by_hand = captured[target.replaced] + scale * direction
    assert_close(put, by_hand, rtol=1e-4, atol=1e-4)
    moved = model.logits(rows, {target.replaced: lambda _: put})
    assert_close(moved, model.logits(rows, {target.replaced: lambda _: by_hand}), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(moved, model.logits(rows), atol=1e-3)
