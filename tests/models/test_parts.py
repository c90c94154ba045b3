"""The named parts and weights of every architecture, against what its own forward pass computes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close

from sae_cli.config.hook import HookPoint
from sae_cli.errors import RequestError
from sae_cli.models import FAMILIES, LanguageModel, Site
from sae_cli.models.parts import find_parts

equal_to_1e5 = partial(assert_close, rtol=1e-5, atol=1e-5)


def captured(model: LanguageModel, rows: Tensor, hook: HookPoint, layer: int) -> Tensor:
    site = Site(hook, layer)
    return model.capture(rows, [site])[site]


def test_every_family_has_a_tiny_model(configs):
    """Those of experts are in test_experts.py, those with a tower that has a text part of its own in test_towers.py."""
    with_neurons = {name for name, family in FAMILIES.items() if family.down_projection}
    assert {config().model_type for config in configs.values()} | {"qwen3_5"} == with_neurons


def test_sizes(model):
    n_layers = 4 if model.hf.config.model_type == "gpt_neo" else 3
    assert (model.n_layers, model.d_model, model.d_mlp) == (n_layers, 32, 48)
    assert (model.vocab_size, model.max_context) == (100, 24)
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)


def test_block_input_is_what_the_embeddings_make(model, rows):
    token_embedding, *rest = model.parts.embeddings
    assert token_embedding is model.hf.get_input_embeddings()
    assert len(rest) == sum(hasattr(model.hf.base_model, name) for name in ("wpe", "decoder")) + (
        getattr(model.hf.config, "word_embed_proj_dim", 32) != 32
    )


def test_mlp_act_through_the_down_projection_is_mlp_out(model, rows):
    for layer, block in enumerate(model.parts.blocks):
        mlp_act = captured(model, rows, HookPoint.mlp_act, layer)
        by_module = block.down_projection(mlp_act)
        expected = block.mlp_out(by_module) if model.parts.family.post_norms else by_module
        expected = expected * getattr(model.hf.config, "residual_multiplier", 1.0)
        equal_to_1e5(captured(model, rows, HookPoint.mlp_out, layer), expected)


def test_W_out_is_the_down_projection(model, rows):
    for layer, block in enumerate(model.parts.blocks):
        mlp_act = captured(model, rows, HookPoint.mlp_act, layer)
        bias = getattr(block.down_projection, "bias", None)
        by_weight = mlp_act @ model.parts.W_out(layer) + (0 if bias is None else bias)
        equal_to_1e5(by_weight, block.down_projection(mlp_act))


def test_mlp_act_differences_reach_the_residual_stream_through_the_map(model, rows):
    """`mlp_out(a) - mlp_out(b) = (a - b) @ map`; after a post-norm the directions agree, not the lengths."""
    mlp_act, mlp_out = (captured(model, rows, hook, 1) for hook in (HookPoint.mlp_act, HookPoint.mlp_out))
    by_map = mlp_act @ model.parts.mlp_act_to_resid(1)
    if model.parts.family.post_norms:
        cosines = torch.cosine_similarity(by_map, mlp_out, dim=-1)
        equal_to_1e5(cosines, torch.ones_like(cosines))
    else:
        equal_to_1e5(by_map[:, 1:] - by_map[:, :-1], mlp_out[:, 1:] - mlp_out[:, :-1])


def bias(module):
    """Of a norm or a linear map; 0 where it has none."""
    found = getattr(module, "bias", None)
    return 0.0 if found is None else found


def test_logits_from_the_final_residual_stream_by_formula(model, rows):
    resid = captured(model, rows, HookPoint.resid, model.n_layers - 1).double()
    parts = model.parts
    if not isinstance(parts.final_norm, torch.nn.Identity):
        centered = resid - resid.mean(-1, keepdim=True) if parts.final_norm_centers else resid
        # Far above the norm's epsilon, which the formula leaves out.
        assert centered.square().mean(-1).min() > 0.1
        resid = centered / centered.square().mean(-1, keepdim=True).sqrt()
    final = resid * parts.final_norm_gain().double() + bias(parts.final_norm)
    logits = final @ parts.W_U().double().T + bias(parts.unembedding)
    assert logits.abs().max() > 1
    if cap := parts.logit_soft_cap:
        logits = cap * torch.tanh(logits / cap)
    assert_close(model.hf(rows).logits.double(), logits, atol=2e-4, rtol=1e-4)


def test_soft_cap_is_read_from_the_config(model):
    capped = {"gemma2": 2.0, "gemma3_text": 2.0}
    assert model.parts.logit_soft_cap == capped.get(model.hf.config.model_type)


def test_unsupported_architecture_lists_those_that_are(build):
    config = transformers.BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=50)
    with pytest.raises(RequestError) as error:
        find_parts(build(config))
    message = str(error.value)
    assert "unsupported architecture" in message
    assert "'bloom'" in message
    assert all(name in message for name in FAMILIES)


@pytest.mark.parametrize(
    ("config", "setting", "layout"),
    [
        (
            transformers.OPTConfig(
                hidden_size=32, ffn_dim=48, num_hidden_layers=1, num_attention_heads=4, do_layer_norm_before=False
            ),
            "expected do_layer_norm_before=True, found False",
            "OPT's post-norm layout",
        ),
        (
            transformers.Gemma3TextConfig(
                hidden_size=32, num_hidden_layers=1, vocab_size=50, use_bidirectional_attention=True
            ),
            "expected use_bidirectional_attention=False, found True",
            "not a causal language model",
        ),
    ],
    ids=["opt", "gemma3"],
)
def test_layouts_that_are_refused(build, config, setting, layout):
    with pytest.raises(RequestError) as error:
        find_parts(build(config))
    assert setting in str(error.value)
    assert layout in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_that_is_laid_out_otherwise_names_the_missing_module(build):
    hf = build(
        transformers.LlamaConfig(
            hidden_size=16, intermediate_size=24, num_hidden_layers=1, vocab_size=50, num_attention_heads=2
        )
    )
    del hf.model.norm
    with pytest.raises(RequestError, match=r"model type 'llama' under their usual names.*`norm`"):
        find_parts(hf)
