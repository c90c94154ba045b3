"""`hook=module` as its user meets it: a module is the hook point that it is, of any causal model every command works,
and of an encoder all but losses."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import sae_cli
from sae_cli.dictionaries.files import DICTIONARY_FILE

SMALL = ["device=cpu", "model_rows=4", "eval.tokens=600", "features.tokens=600"]
TRAIN = [
    "dict_size=32", "tokens=1024", "train.batch_size=128", "train.shuffle_buffer=256", "train.held_out_tokens=64",
    "device=cpu", "model_rows=4",
]  # fmt: skip
SIZES = {"hidden_size": 16, "num_hidden_layers": 2}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
ENCODER: dict[str, Any] = {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 64}


@pytest.fixture(scope="module")
def models(world, tmp_path_factory):
    """A recurrent model and an encoder, each with the tokenizer of the tiny model."""
    root, vocabulary = tmp_path_factory.mktemp("models"), json.loads((world.model / "config.json").read_text())
    sizes: dict[str, Any] = {
        **SIZES,
        "vocab_size": vocabulary["vocab_size"],
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    made = {
        "mamba": transformers.MambaForCausalLM(transformers.MambaConfig(**sizes, state_size=4, initializer_range=0.5)),
        "bert": transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **ENCODER, initializer_range=0.5)),
    }
    for name, hf in made.items():
        hf.save_pretrained(root / name)
        for file in world.model.glob("tokenizer*"):
            shutil.copy(file, root / name)
    return root


def on(model, world):
    text = ["data=text", f"data.path={world.text}", "data.context=32", "data.held_out_fraction=.2"]
    return ["model=hf", f"model.path={model}", *text]


def module(path, side="output"):
    return ["hook=module", f"hook.path={path}", f"hook.side={side}"]


@pytest.fixture
def here(sae, tmp_path):
    """Runs a command whose runs are in the test's own folder."""
    return lambda *arguments, code=0: sae(*arguments, f"runs_dir={tmp_path}", code=code)


def test_a_module_is_the_hook_point_that_it_is(world, here, tmp_path):
    """The same dictionary bit for bit, and the same figures but for those of the direct path."""
    given = [*on(world.model, world), *TRAIN]
    here("train", *given, "hook=mlp_out", "layer=1", "name=named")
    here("train", *given, *module("gpt_neox.layers.1.mlp"), "name=path")
    one, other = (load_file(tmp_path / name / DICTIONARY_FILE) for name in ("named", "path"))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    asked = [*SMALL, "baselines=[token,token2,random]", "baseline_tokens=600", "ablate=[1]", "--json"]
    named, path = (here("eval", tmp_path / name, *asked).document["eval"] for name in ("named", "path"))
    assert path["loss_recovered"] is not None or path["ce_increase"] is not None
    direct = {key for key in named if key not in path}
    assert direct and all(
        "_direct" in key or "logit" in key or key in ("fvu_resid", "final_norm_inverse_scale") for key in direct
    )
    for key in path.keys() - {"ablation", "baselines", "rare"}:
        assert named[key] == pytest.approx(path[key]) if isinstance(named[key], float) else named[key] == path[key], key
    for name, figures in path["baselines"].items():
        assert figures == pytest.approx(named["baselines"][name])
    (taken,), (theirs,) = path["ablation"], named["ablation"]
    assert "cosine_direct" not in taken
    assert all(
        theirs[key] == (pytest.approx(value) if isinstance(value, float) else value) for key, value in taken.items()
    )


def test_every_command_at_a_module_of_a_recurrent_model(models, world, here, sae, tmp_path):
    given = [*on(models / "mamba", world), *module("backbone.layers.0.mixer.out_proj", "input")]
    here("harvest", *given, "tokens=2000", "device=cpu", "model_rows=4")
    said = here("train", *given, *TRAIN)
    run = said.out.strip()
    assert "reading activations from" in said.err
    assert "/backbone.layers.0.mixer.out_proj.input/relu-F32" in run
    ended = sae("eval", run, *SMALL, "baselines=[token,token2,pca]", "baseline_tokens=600", "ablate=[1]")
    for words in ("CE increase", "baseline token2", "none: the way from a module to the logits is not known"):
        assert words in ended.err
    assert "FVU in residual stream" not in ended.err and "logit weights, kurtosis" not in ended.err
    sae("features", run, "only=[0,1]", "contexts.tokens=300", *SMALL)
    sae("features", run, "only=[0,1]", "contexts.tokens=300", *SMALL, "--show", "1")
    sae("report", run, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "of backbone.layers.0.mixer.out_proj.input of" in page
    here("train", *given, *TRAIN, "seed=1", "name=other")
    here("compare", f"a={run}", f"b=[{tmp_path / 'other'}]", *SMALL, "name=compared")
    both = [f"a={run}", f"b=[{tmp_path / 'other'}]", *SMALL]
    here("compare", *both, "by=activations", "name=firing")
    here("compare", *both, "by=effects", "sample=2", "name=effects")
    sae("contrast", run, "--against", tmp_path / "other", *SMALL, f"runs_dir={tmp_path}")
    here("prune-high-freq", run, "top_n=2", *SMALL, "name=pruned")
    sae("bench", run, "context=32", "batch_rows=2", "eval.tokens=600", "device=cpu")
    said = here("compare", f"a={run}", f"b=[{tmp_path / 'other'}]", *SMALL, "space=logits", "name=no", code=2).err
    assert "space=logits: what backbone.layers.0.mixer.out_proj.input adds to it is not known of a module" in said
    assert "baselines=neurons: expected hook=mlp_act" in sae("eval", run, *SMALL, "baselines=[neurons]", code=2).err


def test_two_modules_at_once(models, world, here, sae, tmp_path):
    given = [*on(models / "mamba", world), *TRAIN]
    here("train", *given, *module("backbone.layers.0.mixer"), "name=a")
    here("train", *given, *module("backbone.layers.1"), "name=b")
    ended = here("eval", f"run=[{tmp_path / 'a'},{tmp_path / 'b'}]", *SMALL[:3], "--json").document["eval"]
    assert set(ended["dictionaries"]) == {"backbone.layers.0.mixer.output", "backbone.layers.1.output"}


def test_one_place_under_two_names_is_one_place(world, here, tmp_path):
    given = [*on(world.model, world), *TRAIN]
    here("train", *given, "hook=mlp_out", "layer=1", "name=a")
    here("train", *given, *module("gpt_neox.layers.1.mlp"), "name=b")
    said = here("eval", f"run=[{tmp_path / 'a'},{tmp_path / 'b'}]", *SMALL[:3], code=2).err
    assert "expected one dictionary for gpt_neox.layers.1.mlp.output" in said


def test_an_encoder_has_features_and_no_losses(models, world, here, sae, tmp_path):
    given = [*on(models / "bert", world), *module("bert.encoder.layer.0.output.dense")]
    run = here("train", *given, *TRAIN).out.strip()
    asked = ["eval", run, *SMALL, "baselines=[token,random]", "baseline_tokens=600"]
    ended = sae(*asked)
    assert "none: the model does not predict the next token" in ended.err and "L0" in ended.err
    report = sae(*asked, "--json").document["eval"]
    assert report["fvu"] > 0 and report["bits"] > 0 and not [key for key in report if key.startswith(("ce_", "kl_"))]
    sae("features", run, "only=[0,1]", "contexts.tokens=300", *SMALL)
    sae("report", run, "--out", tmp_path / "report.html")
    here("train", *given, *TRAIN, "seed=1", "name=other")
    here("compare", f"a={run}", f"b=[{tmp_path / 'other'}]", *SMALL, "name=compared")
    sae("contrast", run, "--against", tmp_path / "other", *SMALL, f"runs_dir={tmp_path}")
    sae("eval", run, *SMALL, f"control=[{tmp_path / 'other'}]")
    here("prune-high-freq", run, "top_n=2", *SMALL, "name=pruned")
    for asked in (["ablate=[1]"], ["references=[demo-xxs]"]):
        said = sae("eval", run, *SMALL, *asked, code=2).err
        assert f"{asked[0].partition('=')[0]}" in said and "found BertForMaskedLM, which does not predict" in said
    said = sae("bench", run, "context=32", "batch_rows=2", "eval.tokens=600", "device=cpu", code=2).err
    assert "sae bench: expected a causal language model, found BertForMaskedLM" in said


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (module("backbone.layers.7.mixer"), "hook.path=backbone.layers.7.mixer: expected a module of this mamba"),
        (module("backbone.embeddings", "input"), "found (2, 5) of int64"),
        (["hook=mlp_out", "layer=1"], "or a module of this one with hook=module hook.path="),
        (["hook=module"], "hook.path is missing: give hook.path="),
    ],
)
def test_what_is_not_there_is_one_line(asked, words, models, world, here, tmp_path):
    said = here("train", *on(models / "mamba", world), *TRAIN, *asked, code=2)
    assert words in said.err and said.out == "" and not list(tmp_path.iterdir())


def test_several_modules_from_one_pass(models, world, here, tmp_path):
    given = [*on(models / "mamba", world), *TRAIN, "hook=module", "hydra/launcher=shared"]
    said = here("train", "-m", *given, "hook.path=backbone.layers.0.mixer,backbone.layers.1.mixer")
    assert len(said.out.split()) == 2


def test_heads_of_an_attention_go_to_saelens_and_back(world, here, sae, tmp_path):
    given = [*on(world.model, world), *module("gpt_neox.layers.1.attention.dense", "input")]
    here("train", *given, *TRAIN, "sae=topk", "k=4", "name=heads")
    sae("eval", tmp_path / "heads", *SMALL)
    here("export", tmp_path / "heads", "to=saelens", "name=out")
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "blocks.1.attn.hook_z" and config["reshape_activations"] == "hook_z"
    text = on(world.model, world)
    ended = here("import", tmp_path / "out", *text, *SMALL, "name=back")
    assert "gpt_neox.layers.1.attention.dense.input" in ended.err and "it is what its source says" in ended.err
    one, other = (load_file(tmp_path / name / DICTIONARY_FILE) for name in ("heads", "back"))
    assert torch.equal(one["W_enc"], other["W_enc"]) and torch.equal(one["W_dec"], other["W_dec"])
    said = here("export", tmp_path / "heads", "to=openmoss", "name=no", code=2).err
    assert "expected a hook point that TransformerLens has, found attention heads" in said


def test_heads_whose_place_is_not_known(models, world, here, tmp_path):
    given = [*on(world.model, world), *module("gpt_neox.layers.1.attention.dense", "input")]
    here("train", *given, *TRAIN, "name=heads")
    here("export", tmp_path / "heads", "to=saelens", "name=out")
    asked = [*on(models / "mamba", world), *SMALL, "name=no"]
    said = here("import", tmp_path / "out", *asked, code=2).err
    assert (
        "reads the heads of the attention of block 1" in said and "give hook=module hook.path= hook.side=input" in said
    )
    config = json.loads((tmp_path / "out" / "cfg.json").read_text())
    config["metadata"]["hook_head_index"] = 1
    (tmp_path / "out" / "cfg.json").write_text(json.dumps(config))
    assert "hook_head_index=1" in here("import", tmp_path / "out", *asked, code=1).err


@pytest.mark.parametrize("kind", ["first", "second"])
def test_gemma_scope_of_attentions(kind, world, here, sae, tmp_path):
    """A dictionary in its files, imported at the heads; given the same place by hand, it is the same run but for its
    name."""
    F, d, generator = 24, 16, np.random.default_rng(0)
    tensors = {"W_enc": (d, F), "W_dec": (F, d), "b_enc": (F,), "b_dec": (d,), "threshold": (F,)}
    made = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in tensors.items()}
    made["threshold"] = np.abs(made["threshold"])
    if kind == "first":
        folder = tmp_path / "gemma-scope-2b-pt-att" / "layer_1" / "width_16k" / "average_l0_5"
        folder.mkdir(parents=True)
        np.savez(folder / "params.npz", **made)
    else:
        folder = tmp_path / "attn_out" / "layer_1_width_16k_l0_small"
        folder.mkdir(parents=True)
        lower = {name.lower(): torch.from_numpy(each) for name, each in made.items()}
        save_file(lower, folder / "params.safetensors")
        hook = "model.layers.1.self_attn.o_proj.input"
        config = {"architecture": "jump_relu", "hf_hook_point_in": hook, "hf_hook_point_out": hook}
        (folder / "config.json").write_text(json.dumps(config))
    given = [*on(world.model, world), "check=false"]
    here("import", folder, *given, "name=found")
    here("import", folder, *given, *module("gpt_neox.layers.1.attention.dense", "input"), "name=given")
    found, by_hand = (sae_cli.card(tmp_path / name) for name in ("found", "given"))
    assert found.site == by_hand.site and found.site.label == "gpt_neox.layers.1.attention.dense.input"
    assert "L0" in sae("eval", tmp_path / "found", *SMALL).err


def test_other_modules_have_no_name_in_other_tools(models, world, here, tmp_path):
    here("train", *on(models / "mamba", world), *TRAIN, *module("backbone.layers.0.mixer"), "name=a")
    said = here("export", tmp_path / "a", "to=saelens", "name=no", code=2).err
    assert "expected a dictionary of a layer, found one of backbone.layers.0.mixer.output" in said


def test_a_training_that_was_stopped_goes_on(models, world, here, tmp_path, stopping):
    given = [*on(models / "mamba", world), *module("backbone.layers.0.mixer"), *TRAIN]
    here("train", *given, "name=a", code=143)
    stopping()
    assert "resum" in here("train", *given, "name=a").err
    here("train", *given, "name=b")
    one, other = (load_file(tmp_path / name / DICTIONARY_FILE) for name in ("a", "b"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_controls_of_a_recurrent_model(models, world, here, sae):
    """Gaussian vectors in place of its embeddings, and its place among other models."""
    given = [*on(models / "mamba", world), *module("backbone.layers.0.mixer"), *TRAIN]
    run = here("train", *given, "data.gaussian_embeddings=true").out.strip()
    assert "CE increase" in sae("eval", run, *SMALL).err
    ended = sae("eval", here("train", *given).out.strip(), *SMALL, f"references=[{world.model}]")
    assert "as good as" in ended.err
