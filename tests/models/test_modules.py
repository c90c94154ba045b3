"""Sides of modules that are named by their paths, in models of any architecture, against hooks that are registered by
hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close
from transformers import PretrainedConfig

from sae_cli.config.hook import HookPoint, Side
from sae_cli.errors import JobError, RequestError
from sae_cli.models import LanguageModel, Site, load_language_model
from tests.models.conftest import FALCON, no_tokenizer, random_hf, tiny

SMALL: dict[str, Any] = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3}
HEADS: dict[str, Any] = {"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 24}
OTHERS: dict[str, Callable[[], PretrainedConfig]] = {
    "mamba": partial(transformers.MambaConfig, **SMALL, state_size=4),
    "bloom": partial(transformers.BloomConfig, vocab_size=100, hidden_size=32, n_layer=3, n_head=4),
    "opt-post-norm": partial(
        transformers.OPTConfig, **SMALL, ffn_dim=48, num_attention_heads=4, word_embed_proj_dim=32,
        max_position_embeddings=24, do_layer_norm_before=False,
    ),
    "mixtral": partial(transformers.MixtralConfig, **SMALL, **HEADS, num_key_value_heads=2, num_local_experts=4),
    "falcon": partial(transformers.FalconConfig, **FALCON),
}  # fmt: skip
PLACES = [
    ("mamba", "backbone.layers.1.mixer", "output"), ("mamba", "backbone.layers.1.mixer", "input"),
    ("mamba", "backbone.layers.1.mixer.out_proj", "input"), ("mamba", "backbone.layers.1", "output"),
    ("bloom", "transformer.h.1.mlp.dense_4h_to_h", "input"), ("bloom", "transformer.h.1.self_attention", "output"),
    ("bloom", "transformer.word_embeddings_layernorm", "output"), ("opt-post-norm", "model.decoder.layers.1", "output"),
    ("llama", "model.layers.1.self_attn", "input"), ("llama", "model.layers.1.self_attn", "output"),
    ("llama", "model.layers.1.self_attn.o_proj", "input"), ("llama", "model", "output"), ("llama", "lm_head", "output"),
    ("mixtral", "model.layers.1.mlp", "output"), ("falcon", "transformer.h.1.mlp", "output"),
    ("falcon", "transformer.h.1.self_attention.dense", "output"), ("gemma2", "model.layers.1.mlp.down_proj", "input"),
]  # fmt: skip


@cache
def made(name: str) -> LanguageModel:
    return LanguageModel(random_hf(OTHERS[name]()), no_tokenizer) if name in OTHERS else tiny(name)


@contextmanager
def by_hand(model: LanguageModel, path: str, side: str, change: Callable[[Tensor], Tensor] | None = None):
    """What one side of a module is, by plain hooks; with a change, what takes its place."""
    seen: list[Tensor] = []

    def visit(value: Tensor) -> Tensor:
        seen.append(value.clone())
        return value if change is None else change(value)

    def read(module, arguments, keywords):
        if arguments:
            return (visit(arguments[0]), *arguments[1:]), keywords
        return arguments, keywords | {"hidden_states": visit(keywords["hidden_states"])}

    def leave(module, arguments, output):
        if isinstance(output, Tensor):
            return visit(output)
        if isinstance(output, tuple):
            return (visit(output[0]), *output[1:])
        output.last_hidden_state = visit(output.last_hidden_state)
        return output

    module = model.hf.get_submodule(path)
    if side == "input":
        handle = module.register_forward_pre_hook(read, with_kwargs=True)
    else:
        handle = module.register_forward_hook(leave)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.fixture(params=PLACES, ids=lambda each: ".".join(each))
def place(request: pytest.FixtureRequest) -> tuple[LanguageModel, Site, str, str]:
    name, path, side = request.param
    return made(name), Site.of_module(path, Side(side)), path, side


def halves(activations: Tensor) -> Tensor:
    return activations / 2 + 0.1


def whole_pass(model: LanguageModel, rows: Tensor) -> Tensor:
    with torch.no_grad():
        return model.hf(rows).logits


def test_captured_is_what_a_hook_sees(place, rows):
    model, site, path, side = place
    with by_hand(model, path, side) as seen:
        logits = whole_pass(model, rows)
    found = model.capture(rows, [site])[site]
    assert_close(found, seen[0], rtol=0, atol=0)
    assert found.shape[2] == model.width(site)
    watched = {}
    clean = model.logits(rows, {site: lambda activations: watched.setdefault("x", activations)})
    assert_close(watched["x"], seen[0], rtol=0, atol=0)  # whatever the model has written into it since
    assert_close(clean, logits, rtol=0, atol=0)


def test_replaced_is_what_a_hook_replaces(place, rows):
    model, site, path, side = place
    with by_hand(model, path, side, halves):
        expected = whole_pass(model, rows)
    clean = whole_pass(model, rows)
    assert (expected - clean).abs().max() > 1e-3
    assert_close(model.logits(rows, {site: halves}), expected, rtol=0, atol=0)
    found, replaced = model.branches(rows, site)
    assert_close(found.all(), clean, rtol=0, atol=0)
    for _ in range(2):
        assert_close(replaced(halves).all(), expected, rtol=1e-6, atol=1e-6)
    assert_close(replaced(torch.zeros_like).all(), model.logits(rows, {site: torch.zeros_like}), rtol=1e-6, atol=1e-6)


def test_nothing_after_the_module_is_run(rows):
    model, calls = made("mamba"), []
    after = model.hf.get_submodule("backbone.layers.2").register_forward_hook(lambda *_: calls.append(1))
    for side in Side:
        site = Site.of_module("backbone.layers.1.mixer", side)
        model.width(site)
        calls.clear()
        model.capture(rows, [site])
        assert not calls
    after.remove()


def test_a_branch_begins_at_the_module(rows):
    model, site, calls = made("mamba"), Site.of_module("backbone.layers.1.mixer", Side.output), []
    _, replaced = model.branches(rows, site)
    inside = [model.hf.get_submodule(f"backbone.layers.{i}.mixer.in_proj") for i in range(3)]
    handles = [each.register_forward_pre_hook(lambda *_, i=i: calls.append(i)) for i, each in enumerate(inside)]
    replaced(halves)
    for handle in handles:
        handle.remove()
    assert calls == [2]
    assert_close(replaced(halves).all(), model.logits(rows, {site: halves}))


def test_a_module_is_the_hook_point_that_it_is(rows):
    model = tiny("llama")
    pairs = {
        "model.layers.1.mlp": (HookPoint.mlp_out, Side.output),
        "model.layers.1.mlp.down_proj": (HookPoint.mlp_act, Side.input),
        "model.layers.1.self_attn": (HookPoint.attn_out, Side.output),
        "model.layers.1": (HookPoint.resid, Side.output),
    }
    for path, (hook, side) in pairs.items():
        one, other = Site(hook, 1), Site.of_module(path, side)
        seen = model.capture(rows, [one, other])
        assert_close(seen[one], seen[other], rtol=0, atol=0)


def refused(model: LanguageModel, path: str, side: Side = Side.output) -> str:
    with pytest.raises(RequestError) as caught:
        model.width(Site.of_module(path, side))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_module_that_is_not_there_has_near_names():
    said = refused(made("mamba"), "backbone.layers.1.mixr")
    assert "hook.path=backbone.layers.1.mixr: expected a module of this mamba (MambaForCausalLM), found none" in said
    assert "nearest: backbone.layers.1.mixer, " in said and "named_modules() of the model in transformers" in said
    assert "nearest" not in refused(made("mamba"), "0000")


@pytest.mark.parametrize(
    ("name", "path", "side", "words"),
    [
        ("mamba", "backbone.layers", "output", "called once in a forward pass, found that it is not called at all"),
        ("mamba", "backbone.embeddings", "input", "found (2, 5) of int64 in a pass over 2 rows"),
        ("mixtral", "model.layers.1.mlp.gate", "output", "(rows, positions, width), found (10, 4) of float32"),
        ("mixtral", "model.layers.1.mlp.experts", "output", "found (10, 32) of float32"),
        ("llama", "model.rotary_emb", "output", "found (1, 5, 8) of float32"),
    ],
)  # fmt: skip
def test_what_has_no_activations_of_rows_and_positions_is_one_line(name, path, side, words):
    said = refused(made(name), path, Side(side))
    assert said.startswith(f"hook.path={path} hook.side={side}: expected ") and words in said


def test_what_has_other_positions_in_longer_rows_is_one_line():
    """Reformer fills rows up to whole chunks."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "attention_head_size": 8,
        "num_attention_heads": 4,
    }
    axes: dict[str, Any] = {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], "max_position_embeddings": 64}
    config = transformers.ReformerConfig(
        vocab_size=100,
        feed_forward_size=48,
        **sizes,
        **axes,
        is_decoder=True,
        attn_layers=["local"],
        local_attn_chunk_length=8,
    )
    model = LanguageModel(transformers.ReformerModelWithLMHead(config), no_tokenizer)
    site = Site.of_module("reformer.embeddings", Side.output)
    assert model.width(site) == 32
    with pytest.raises(RequestError, match=r"expected activations of shape \(1, 9, width\), found \(1, 16, 32\)"):
        model.capture(torch.arange(9)[None], [site])


def test_a_module_that_is_called_twice_is_one_line():
    albert = transformers.AlbertModel(transformers.AlbertConfig(**SMALL, **HEADS, embedding_size=16))
    model = LanguageModel(albert, no_tokenizer)
    said = refused(model, "encoder.albert_layer_groups.0.albert_layers.0.ffn")
    assert "expected a module that is called once in a forward pass, found that it is called 3 times" in said


def test_named_hook_points_of_an_unknown_architecture_are_refused(rows):
    with pytest.raises(
        RequestError, match=r"unsupported architecture.*'mamba'.*or a module of this one with hook=module"
    ):
        made("mamba").capture(rows, [Site(HookPoint.mlp_out, 1)])


@pytest.mark.parametrize(("name", "predicts"), [("mamba", True), ("bloom", True), ("opt-post-norm", True)])
def test_causal_models_predict(name, predicts):
    assert made(name).predicts is predicts


@pytest.fixture
def bert() -> LanguageModel:
    return LanguageModel(transformers.BertForMaskedLM(transformers.BertConfig(**SMALL, **HEADS)), no_tokenizer)


def test_an_encoder_has_activations_and_no_losses(bert, rows):
    site = Site.of_module("bert.encoder.layer.1.output.dense", Side.output)
    with by_hand(bert, "bert.encoder.layer.1.output.dense", "output") as seen:
        whole_pass(bert, rows)
    assert_close(bert.capture(rows, [site])[site], seen[0], rtol=0, atol=0)
    assert not bert.predicts
    with pytest.raises(
        RequestError, match="expected a causal language model, found BertForMaskedLM, which does not predict"
    ):
        bert.logits(rows)


def test_an_encoder_without_a_head_does_not_predict(rows):
    model = LanguageModel(transformers.BertModel(transformers.BertConfig(**SMALL, **HEADS)), no_tokenizer)
    assert not model.predicts and model.max_context == 24


def test_the_longest_row():
    roberta = transformers.RobertaForMaskedLM(transformers.RobertaConfig(**SMALL, **HEADS))
    model = LanguageModel(roberta, no_tokenizer)
    assert model.max_context == 24 - 2  # its positions begin after that of padding
    site = Site.of_module("roberta.encoder.layer.1", Side.output)
    assert model.capture(torch.full((1, 22), 7), [site])[site].shape == (1, 22, 32)
    assert made("mamba").max_context > 10**6


def test_a_model_of_an_unknown_architecture_is_loaded_where_only_modules_are_asked_for(bert, tmp_path, rows):
    for model, folder in ((made("mamba"), tmp_path / "mamba"), (bert, tmp_path / "bert")):
        model.hf.save_pretrained(folder)
        with pytest.raises(RequestError, match="unsupported architecture"):
            load_language_model(str(folder))
        loaded = load_language_model(str(folder), any_model=True)
        assert type(loaded.hf) is type(model.hf)
        path = "backbone.layers.1" if model is not bert else "bert.encoder.layer.1"
        site = Site.of_module(path, Side.output)
        assert_close(loaded.capture(rows, [site]), model.capture(rows, [site]))


def test_an_encoder_and_decoder_is_refused(tmp_path):
    config = transformers.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(RequestError, match="reads rows of tokens alone, found T5ForConditionalGeneration"):
        load_language_model(str(tmp_path), any_model=True)


def test_a_type_that_transformers_does_not_have(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises((RequestError, JobError), match="expected a model type that transformers has, found 'nonsense'"):
        load_language_model(str(tmp_path), any_model=True)


def test_the_same_module_of_another_block():
    model = tiny("llama")
    site = Site.of_module("model.layers.1.self_attn.o_proj", Side.input)
    assert model.moved(site, 1) == Site.of_module("model.layers.2.self_attn.o_proj", Side.input)
    assert model.moved(site, 2) is None and model.moved(Site.of_module("lm_head", Side.output), 1) is None
    assert model.moved(Site(HookPoint.resid, 0), -1) == Site(HookPoint.resid, -1)
