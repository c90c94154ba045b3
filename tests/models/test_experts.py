"""Mixtures of experts: their updates to the residual stream, which is dense; the router is left alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close
from transformers import PretrainedConfig, PreTrainedModel

from sae_cli.config.hook import HookPoint, LogitMode
from sae_cli.errors import RequestError
from sae_cli.models import FAMILIES, DirectPath, LanguageModel, Site, load_language_model

SIZES = {"num_hidden_layers": 3, "vocab_size": 100, "max_position_embeddings": 24, "hidden_size": 32}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
EXPERTS = {"num_experts_per_tok": 2}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "mixtral": partial(
        transformers.MixtralConfig, **SIZES, **HEADS, **EXPERTS, intermediate_size=48, num_local_experts=4
    ),
    "qwen2_moe": partial(
        transformers.Qwen2MoeConfig, **SIZES, **HEADS, **EXPERTS, intermediate_size=48, num_experts=4,
        moe_intermediate_size=24, shared_expert_intermediate_size=40,
    ),
    "qwen3_moe": partial(
        transformers.Qwen3MoeConfig, **SIZES, **HEADS, **EXPERTS, head_dim=8, intermediate_size=48, num_experts=4,
        moe_intermediate_size=24,
    ),
    "qwen3_5_moe_text": partial(
        transformers.Qwen3_5MoeTextConfig, **SIZES, **HEADS, **EXPERTS, head_dim=8, num_experts=4,
        moe_intermediate_size=24, shared_expert_intermediate_size=40, linear_key_head_dim=8, linear_value_head_dim=8,
        linear_num_key_heads=2, linear_num_value_heads=4,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
    "gpt_oss": partial(
        transformers.GptOssConfig, **SIZES, **HEADS, **EXPERTS, head_dim=8, intermediate_size=48, num_local_experts=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], sliding_window=4,
    ),
}  # fmt: skip
PLACES = (HookPoint.attn_out, HookPoint.mlp_out, HookPoint.resid)


def no_tokenizer() -> transformers.PreTrainedTokenizerBase:
    raise RequestError("a model made in memory has no tokenizer")


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest, build: Callable[[PretrainedConfig], PreTrainedModel]) -> LanguageModel:
    return LanguageModel(build(CONFIGS[request.param]()), no_tokenizer)


def sites(model: LanguageModel) -> list[Site]:
    return [Site(hook, layer) for layer in range(model.n_layers) for hook in PLACES] + [Site(HookPoint.resid, -1)]


def test_every_family_of_experts_has_a_tiny_model():
    found = {name for name, family in FAMILIES.items() if not family.down_projection}
    assert set(CONFIGS) | {"qwen3_5_moe"} == found  # which has a tower: see `test_towers`


def test_updates_add_up_and_the_stream_is_transformers_own(model, rows):
    seen = model.capture(rows, sites(model))
    hidden = model.hf(rows, output_hidden_states=True, use_cache=False).hidden_states
    for layer in range(model.n_layers):
        updates = seen[Site(HookPoint.attn_out, layer)] + seen[Site(HookPoint.mlp_out, layer)]
        before, after = (seen[Site(HookPoint.resid, each)] for each in (layer - 1, layer))
        assert_close(before + updates, after, rtol=1e-5, atol=1e-5)
        assert_close(before, hidden[layer], rtol=0, atol=0)
    assert model.width(Site(HookPoint.mlp_out, 0)) == model.d_model == 32 and model.d_mlp is None


def test_replacing_with_what_was_captured_changes_nothing_and_zeros_do(model, rows):
    clean, seen = model.logits(rows), model.capture(rows, sites(model))
    for site in sites(model):
        assert_close(model.logits(rows, {site: lambda _, site=site: seen[site].clone()}), clean, rtol=1e-5, atol=1e-5)
        assert (model.logits(rows, {site: torch.zeros_like}) - clean).abs().max() > 1e-3, site


def test_the_router_sees_the_stream_and_nothing_else(model, rows):
    """With the MLP's update replaced, later blocks read it, and the router of the same block what it read before."""
    routed: dict[str, Tensor] = {}
    children = dict(model.parts.blocks[1].mlp_out.named_children())
    router = children["gate"] if "gate" in children else children["router"]
    for name, replaced in (("clean", {}), ("replaced", {Site(HookPoint.mlp_out, 1): torch.zeros_like})):

        def note(_, inputs, name=name):
            routed[name] = inputs[0].clone()

        handle = router.register_forward_pre_hook(note)
        model.logits(rows, replaced)
        handle.remove()
    assert_close(routed["clean"], routed["replaced"], rtol=0, atol=0)


def test_the_direct_path_is_exact_in_the_last_block(model, rows):
    """Without the last MLP's update the logits are those of the stream before it."""
    site = Site(HookPoint.logit_update, model.n_layers - 1, LogitMode.exact)
    target, seen = model.target(site), {}
    seen = {tap: model.capture(rows, [tap])[tap] for tap in {*target.taps, model.end.final_resid}}
    there = target.normalized(target.read(seen), seen)
    found = DirectPath(model).outputs(model.outputs(rows), there, {"": torch.zeros_like(there)})[""].all()
    without = seen[model.end.final_resid] - seen[Site(HookPoint.mlp_out, model.n_layers - 1)]
    expected = model.parts.unembedding(model.parts.final_norm(without))
    assert_close(found, expected, rtol=1e-3, atol=2e-4)


def test_neurons_are_refused(model):
    with pytest.raises(
        RequestError, match="is a mixture of experts, each with neurons of its own; choose hook=mlp_out"
    ):
        model.check_site(Site(HookPoint.mlp_act, 0))


def test_a_folder_is_loaded(model, tmp_path, rows):
    model.hf.save_pretrained(tmp_path)
    assert_close(load_language_model(str(tmp_path)).logits(rows), model.logits(rows), rtol=1e-6, atol=1e-6)
