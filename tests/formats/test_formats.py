"""Formats without a package to ask: what their definition says, in float64; and what is refused in one line."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.errors import JobError, RequestError
from sae_cli.runs.formats import FORMATS, dictionaries_in, format_of, writable
from sae_cli.runs.formats.format import Outgoing
from sae_cli.runs.formats.places import heads_layer, model_of, site_of, transformer_lens

FORMATS_FOLDER = Path(__file__).parent
D, F, N, K = 12, 40, 300, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, D))
W_ENC, W_DEC = RNG.normal(size=(F, D)), RNG.normal(size=(F, D)) * 0.6
B_ENC, B_DEC, THETA = RNG.normal(size=F) * 0.3, RNG.normal(size=D), RNG.uniform(0.2, 1.5, size=F)


def tensor(array):
    return torch.from_numpy(np.ascontiguousarray(array)).float()


def jumped(pre, theta):
    return np.where(pre > theta, np.maximum(pre, 0), 0)


def largest(pre, k):
    pre, kept = np.maximum(pre, 0), np.zeros_like(pre)
    chosen = np.argsort(-pre, axis=1)[:, :k]
    np.put_along_axis(kept, chosen, np.take_along_axis(pre, chosen, 1), 1)
    return kept


def gemma_scope(root):
    folder = root / "gemma-scope-2b-pt-res" / "layer_12" / "width_16k" / "average_l0_82"
    folder.mkdir(parents=True)
    arrays = {"W_enc": W_ENC.T, "W_dec": W_DEC, "b_enc": B_ENC, "b_dec": B_DEC, "threshold": THETA}
    np.savez(folder / "params.npz", **{name: each.astype(np.float32) for name, each in arrays.items()})  # pyright: ignore[reportArgumentType]
    f = jumped(X @ W_ENC.T + B_ENC, THETA)
    return folder, f, f @ W_DEC + B_DEC, "google/gemma-2-2b", "resid.12"


def gemma_scope_2(root):
    folder = root / "resid_post" / "layer_7_width_16k_l0_medium"
    folder.mkdir(parents=True)
    tensors = {"w_enc": W_ENC.T, "w_dec": W_DEC, "b_enc": B_ENC, "b_dec": B_DEC, "threshold": THETA}
    save_file({name: tensor(each) for name, each in tensors.items()}, folder / "params.safetensors")
    config = {"architecture": "jump_relu", "model_name": "google/gemma-3-1b-pt"}
    config |= {"hf_hook_point_in": "model.layers.7.output", "hf_hook_point_out": "model.layers.7.output"}
    (folder / "config.json").write_text(json.dumps(config))
    f = jumped(X @ W_ENC.T + B_ENC, THETA)
    return folder, f, f @ W_DEC + B_DEC, "google/gemma-3-1b-pt", "resid.7"


def openmoss(root, act="jumprelu", norm="dataset-wise", with_norms=True):
    tensors = {"W_E": W_ENC.T, "W_D": W_DEC, "b_E": B_ENC, "b_D": B_DEC}
    tensors["activation_function.log_jumprelu_threshold"] = np.log(THETA)
    tensors["dataset_average_activation_norm.blocks.4.hook_mlp_out"] = np.array(17.0)
    save_file({name: tensor(each) for name, each in tensors.items()}, root / "sae_weights.safetensors")
    config = {
        "sae_type": "sae", "hook_point_in": "blocks.4.hook_mlp_out", "hook_point_out": "blocks.4.hook_mlp_out",
        "d_model": D, "act_fn": act, "norm_activation": norm, "sparsity_include_decoder_norm": with_norms,
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(config | {"model_name": "gpt2"}))
    scale = D**0.5 / 17.0
    pre, norms = (scale * X) @ W_ENC.T + B_ENC, np.linalg.norm(W_DEC, axis=1)
    f = np.maximum(pre, 0) * (pre * norms > THETA)
    # Ours are what it holds against its threshold, in raw units.
    return root, f * norms / scale, (f @ W_DEC + B_DEC) / scale, "openai-community/gpt2", "mlp_out.4"


def llama_scope(root):
    (root / "checkpoints").mkdir()
    tensors = {"encoder.weight": W_ENC, "decoder.weight": W_DEC.T, "encoder.bias": B_ENC, "decoder.bias": B_DEC}
    save_file({name: tensor(each) for name, each in tensors.items()}, root / "checkpoints" / "final.safetensors")
    config = {
        "d_model": D, "d_sae": F, "jump_relu_threshold": 0.7, "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 21.0, "out": 21.0}, "hook_point_in": "blocks.9.hook_resid_post",
        "hook_point_out": "blocks.9.hook_resid_post", "model_name": "meta-llama/Llama-3.1-8B",
    }  # fmt: skip
    (root / "hyperparams.json").write_text(json.dumps(config))
    scale = D**0.5 / 21.0
    f = jumped((scale * X) @ W_ENC.T + B_ENC, 0.7)
    return root, f / scale, (f @ W_DEC + B_DEC) / scale, "meta-llama/Llama-3.1-8B", "resid.9"


def qwen_scope(root):
    folder = root / "SAE-Res-Qwen3-1.7B-W32K-L0_5"
    folder.mkdir()
    tensors = {"W_enc": W_ENC, "W_dec": W_DEC.T, "b_enc": B_ENC, "b_dec": B_DEC}
    torch.save({name: tensor(each) for name, each in tensors.items()}, folder / "layer3.sae.pt")
    f = largest(X @ W_ENC.T + B_ENC, K)
    return folder / "layer3.sae.pt", f, f @ W_DEC + B_DEC, "Qwen/Qwen3-1.7B", "resid.3"


def openai(root):
    folder = root / "gpt2-small" / "resid_delta_mlp" / "autoencoders"
    folder.mkdir(parents=True)
    tensors = {"encoder.weight": W_ENC, "decoder.weight": W_DEC.T, "latent_bias": B_ENC, "pre_bias": B_DEC}
    state = {name: tensor(each) for name, each in tensors.items()} | {"stats_last_nonzero": torch.zeros(F).long()}
    torch.save({**state, "activation": "ReLU"}, folder / "6.pt")
    f = np.maximum((X - B_DEC) @ W_ENC.T + B_ENC, 0)
    return folder / "6.pt", f, f @ W_DEC + B_DEC, "openai-community/gpt2", "mlp_out.6"


def standardized(x):
    """Each token less its mean, over its standard deviation (d - 1) and 1e-5; and both."""
    mean, std = x.mean(axis=1, keepdims=True), x.std(axis=1, ddof=1, keepdims=True)
    return (x - mean) / (std + 1e-5), mean, std


def openai_topk(root):
    """`Autoencoder.from_state_dict` of its release: TopK means that every token is normalized."""
    folder = root / "gpt2-small" / "resid_post_mlp_v5_32k" / "autoencoders"
    folder.mkdir(parents=True)
    tensors = {"encoder.weight": W_ENC, "decoder.weight": W_DEC.T, "latent_bias": B_ENC, "pre_bias": B_DEC}
    state = {name: tensor(each) for name, each in tensors.items()} | {"stats_last_nonzero": torch.zeros(F).long()}
    after = {"activation": "TopK", "activation_state_dict": {"k": K, "postact_fn": "ReLU"}}
    torch.save(state | after, folder / "8.pt")
    z, mean, std = standardized(X)
    f = largest((z - B_DEC) @ W_ENC.T + B_ENC, K)
    return folder / "8.pt", f, (f @ W_DEC + B_DEC) * std + mean, "openai-community/gpt2", "resid.8"


def openmoss_token_wise(root):
    openmoss(root, norm="token-wise")
    scale = D**0.5 / np.linalg.norm(X, axis=1, keepdims=True)
    norms = np.linalg.norm(W_DEC, axis=1)
    pre = (scale * X) @ W_ENC.T + B_ENC
    f = np.maximum(pre, 0) * (pre * norms > THETA)
    return root, f * norms, (f @ W_DEC + B_DEC) / scale, "openai-community/gpt2", "mlp_out.4"


def goodfire(root):
    tensors = {"encoder_linear.weight": W_ENC, "decoder_linear.weight": W_DEC.T}
    tensors |= {"encoder_linear.bias": B_ENC, "decoder_linear.bias": B_DEC}
    torch.save({name: tensor(each) for name, each in tensors.items()}, root / "sae.pth")
    f = np.maximum(X @ W_ENC.T + B_ENC, 0)
    return root / "sae.pth", f, f @ W_DEC + B_DEC, None, None


MADE = [gemma_scope, gemma_scope_2, openmoss, llama_scope, qwen_scope, openai, goodfire]
NORMALIZING = [openai_topk, openmoss_token_wise]
OF = {"openai_topk": "openai", "openmoss_token_wise": "openmoss"}


@pytest.mark.parametrize("make", [*MADE, *NORMALIZING])
def test_what_its_definition_says(make, tmp_path):
    address, f, y, model, place = make(tmp_path)
    files = ForeignFiles(address)
    kind = format_of(files, None)
    assert kind.name == OF.get(make.__name__, make.__name__)
    found = kind.read(files)
    codes = found.dictionary.encode(tensor(X))
    assert np.abs(codes.numpy() - f).max() <= 1e-5 * np.abs(f).max()
    assert np.abs(found.dictionary.decode(codes, tensor(X)).numpy() - y).max() <= 1e-5 * np.abs(y).max()
    assert (found.model and model_of(found.model)) == model
    site = site_of(found.hook) if found.hook else None
    assert (site and site.label) == place
    assert len(files.sha256()) == 64 and files.read


@pytest.mark.parametrize("make", MADE)
def test_a_missing_or_odd_tensor_is_one_line(make, tmp_path):
    address = make(tmp_path)[0]
    files = ForeignFiles(address)
    name = next(each for each in [*files.names(), "checkpoints/final.safetensors"] if not each.endswith("json"))
    path = files.folder / name
    tensors = files.tensors(name)
    for change in ("gone", "flat", "nan", "surplus"):
        changed = {key: each.contiguous() for key, each in tensors.items()}
        key = sorted(changed)[0]
        changed |= {"flat": {key: changed[key].flatten()[:3]}, "surplus": {"W_more": torch.zeros(2)}}.get(change, {})
        changed |= {key: changed[key] * torch.nan} if change == "nan" else {}
        if change == "gone":
            del changed[key]
        match path.suffix:
            case ".npz":
                np.savez(path, **{each: value.numpy() for each, value in changed.items()})  # pyright: ignore[reportArgumentType]
            case ".safetensors":
                save_file(changed, path)
            case _:
                torch.save(changed, path)
        with pytest.raises(JobError) as caught:
            next(each for each in FORMATS if each.name == make.__name__).read(ForeignFiles(address))
        assert "expected" in str(caught.value) and "found" in str(caught.value)


class Trap:
    def __reduce__(self):
        return (open, ("/nonexistent/folder/was/run", "w"))


def test_no_pickle_is_run(tmp_path):
    torch.save({"encoder_linear.weight": Trap()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"encoder_linear.weight": Trap()}))
    with zipfile.ZipFile(tmp_path / "c.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/data.pkl", b"\0" * 10_000_000)
    for name in ("a.pt", "b.pt", "c.pt"):
        with pytest.raises(JobError, match=r"expected tensors in a \.pt file"):
            ForeignFiles(tmp_path / name).tensors(name)


def test_a_tensor_that_claims_more_than_its_file_has(tmp_path):
    torch.save({"x": torch.zeros(1).expand(10_000, 10_000)}, tmp_path / "a.pt")
    with pytest.raises(JobError, match="tensors larger than the file"):
        ForeignFiles(tmp_path / "a.pt").tensors("a.pt")


@pytest.mark.parametrize(("change", "words"), [
    ({"norm_activation": "batch-wise"}, "activations are scaled by the mean norm of the batch that they are read in"),
    ({"sae_type": "clt"}, "sae_type='clt' cannot be imported"),
    ({"hook_point_out": "blocks.5.hook_mlp_out"}, "a transcoder from blocks.4.hook_mlp_out to blocks.5"),
    ({"act_fn": "gelu"}, "act_fn='gelu' cannot be imported"),
])  # fmt: skip
def test_what_cannot_be_represented_is_refused(change, words, tmp_path):
    openmoss(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(JobError, match=words):
        format_of(files := ForeignFiles(tmp_path), None).read(files)


@pytest.mark.parametrize(("change", "words"), [
    ({"activation": "Tanh"}, "activation='Tanh' cannot be imported: this version has ReLU and TopK"),
    ({"activation": "TopK", "activation_state_dict": {}}, "expected k in activation_state_dict, a whole number"),
    ({"activation": "TopK", "activation_state_dict": {"k": 5, "postact_fn": "Tanh"}}, "features may be negative"),
])  # fmt: skip
def test_other_activations_of_openai_are_refused(change, words, tmp_path):
    path = openai(tmp_path)[0]
    torch.save({**torch.load(path), **change}, path)
    with pytest.raises(JobError, match=words):
        format_of(files := ForeignFiles(path), None).read(files)


def test_what_is_said_of_the_mean_of_a_dictionary_that_normalizes(tmp_path):
    found = format_of(files := ForeignFiles(openai_topk(tmp_path)[0]), None).read(files)
    assert found.folded == ("the mean of its training activations is not known: 0 stands in for it",)
    assert found.claims[0][:2] == ("k", float(K)) and not found.dictionary.activation_mean.any()
    out = Outgoing(found.dictionary, "gpt2", "resid", 8, K, None, {})
    for to in ("dictionary_learning", "sparsify", "openmoss"):
        with pytest.raises(RequestError, match=f"to={to}: expected a dictionary without normalization.*layer_norm"):
            writable(to).write(out)
    assert writable("saelens").write(out).documents["cfg.json"]["normalize_activations"] == "layer_norm"


def test_names_of_formats():
    with pytest.raises(RequestError, match="format=saelense: did you mean saelens"):
        format_of(ForeignFiles(FORMATS_FOLDER), "saelense")
    with pytest.raises(RequestError, match="to=gemma_scope"):
        writable("gemma_scope")
    with pytest.raises(RequestError, match="expected a dictionary in one of the formats saelens"):
        format_of(ForeignFiles(FORMATS_FOLDER), None)


def test_what_is_in_a_folder_of_many():
    names = ["trainer_0/ae.pt", "trainer_0/config.json", "trainer_0/checkpoints/ae_5.pt", "trainer_1/ae.pt", "x.md"]
    assert dictionaries_in(names) == ["trainer_0", "trainer_1"]
    assert dictionaries_in(["cfg.json", "sae_weights.safetensors"]) == ["."]
    assert dictionaries_in(["config.json", "layers.3/sae.safetensors"]) == ["layers.3"]
    assert dictionaries_in(["layer3.sae.pt", "layer4.sae.pt"]) == ["layer3.sae.pt", "layer4.sae.pt"]
    assert dictionaries_in(["a/checkpoints/final.safetensors", "a/hyperparams.json"]) == ["a"]
    assert dictionaries_in(["README.md"]) == []


@pytest.mark.parametrize(("name", "label"), [
    ("blocks.3.hook_resid_pre", "resid.2"), ("blocks.0.hook_resid_pre", "resid.-1"), ("hook_embed", "resid.-1"),
    ("blocks.3.mlp.hook_post", "mlp_act.3"), ("layers.10", "resid.10"), ("h.0.attn", "attn_out.0"),
    ("layers.5.mlp", "mlp_out.5"), ("model.layers.7.output", "resid.7"), ("resid_post_layer_3", "resid.3"),
    ("attention_out_layer_2", "attn_out.2"), ("blocks.3.attn.hook_z", None),
    ("model.layers.7.self_attn.o_proj.input", None),
])  # fmt: skip
def test_places(name, label):
    site = site_of(name)
    assert (site and site.label) == label


@pytest.mark.parametrize(("name", "layer"), [
    ("blocks.3.attn.hook_z", 3), ("model.layers.7.self_attn.o_proj.input", 7),
    ("gpt_neox.layers.2.attention.dense.input", 2), ("transformer.h.4.attn.c_proj.input", 4),
    ("model.decoder.layers.1.self_attn.out_proj.input", 1), ("model.layers.7.self_attn.o_proj.output", None),
    ("blocks.3.hook_mlp_out", None),
])  # fmt: skip
def test_heads_of_attentions(name, layer):
    assert heads_layer(name) == layer


def test_names_of_places_and_models():
    assert transformer_lens("resid", 4) == "blocks.4.hook_resid_post"
    assert transformer_lens("logits", 4) is None
    assert model_of("pythia-70m-deduped") == "EleutherAI/pythia-70m-deduped"
    assert model_of("gemma-2-2b") == "google/gemma-2-2b"
    assert model_of("/home/somebody/model") is None and model_of("mine") is None
