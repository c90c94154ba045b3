"""Dictionaries of other tools mean here what they mean there: compared with their own `encode` and `decode`.

`make peers` builds the environment that has the tools; without them these tests are skipped.
"""

from __future__ import annotations

import json

import pytest
import torch

from sae_cli.artifacts.foreign_files import ForeignFiles
from sae_cli.artifacts.run_directory import open_run
from sae_cli.dictionaries.files import architecture_class
from sae_cli.runs.formats import format_of, writable
from sae_cli.runs.formats.format import Outgoing

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default")]
D, F, N, K = 12, 40, 200, 5


def imported(folder, name=None):
    files = ForeignFiles(folder)
    kind = format_of(files, None)
    assert name is None or kind.name == name
    return kind.read(files)


def close(found, expected, limit=1e-5):
    expected = expected.detach()
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= limit * float(expected.abs().max())


def randomized(module, unit=False):
    """The peer's dictionary with random numbers for all of its parameters."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, each in module.named_parameters():
            each.copy_(torch.randn(each.shape, generator=generator) * (0.3 if each.ndim == 1 else 0.5))
            if name == "threshold":
                each.copy_(torch.rand(each.shape, generator=generator))
    return module


X = torch.randn(N, D, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("case", ["standard", "topk", "topk rescaled", "jumprelu", "gated"])
def test_saelens(case, subtracts, tmp_path):
    lens = pytest.importorskip("sae_lens")
    kinds = {"standard": "Standard", "topk": "TopK", "jumprelu": "JumpReLU", "gated": "Gated"}
    kind = kinds[case.split()[0]]
    more = {"k": K, "rescale_acts_by_decoder_norm": "rescaled" in case} if kind == "TopK" else {}
    config = getattr(lens, f"{kind}SAEConfig")(d_in=D, d_sae=F, apply_b_dec_to_input=subtracts, **more)
    config.metadata.model_name, config.metadata.hook_name = "gpt2-small", "blocks.3.hook_resid_pre"
    sae = randomized(getattr(lens, f"{kind}SAE")(config))
    sae.save_model(tmp_path)
    found = imported(tmp_path, "saelens")
    assert (found.model, found.hook) == ("gpt2-small", "blocks.3.hook_resid_pre")
    f = sae.encode(X)
    close(found.dictionary.encode(X), f)
    close(found.dictionary.decode(found.dictionary.encode(X)), sae.decode(f))


@pytest.mark.parametrize("normalize", ["layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize("case", ["standard", "topk", "topk rescaled", "jumprelu", "gated"])
def test_saelens_with_every_token_normalized(case, subtracts, normalize, tmp_path):
    """And back again, bit for bit."""
    lens = pytest.importorskip("sae_lens")
    kind = {"standard": "Standard", "topk": "TopK", "jumprelu": "JumpReLU", "gated": "Gated"}[case.split()[0]]
    more = {"k": K, "rescale_acts_by_decoder_norm": "rescaled" in case} if kind == "TopK" else {}
    settings = {"apply_b_dec_to_input": subtracts, "normalize_activations": normalize, **more}
    sae = randomized(getattr(lens, f"{kind}SAE")(getattr(lens, f"{kind}SAEConfig")(d_in=D, d_sae=F, **settings)))
    sae.save_model(tmp_path / "theirs")
    found = imported(tmp_path / "theirs", "saelens").dictionary
    x = X * torch.logspace(-1, 2, N)[:, None] + 0.5
    f = sae.encode(x)
    close(found.encode(x), f)
    close(found(x), sae.decode(f))
    exported(found, "saelens", tmp_path / "out")
    theirs = lens.SAE.load_from_disk(tmp_path / "out")
    assert theirs.cfg.normalize_activations == normalize
    close(theirs(x).detach(), found(x))
    again = imported(tmp_path / "out", "saelens").dictionary
    assert again.normalization is found.normalization
    assert all(torch.equal(each, again.tensors()[name]) for name, each in found.tensors().items())


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_trained_for_inference(kind, tmp_path):
    """BatchTopK and Matryoshka, as their tool saves them when they are trained."""
    lens = pytest.importorskip("sae_lens")
    names = {"batchtopk": "BatchTopK", "matryoshka_batchtopk": "MatryoshkaBatchTopK"}
    more = {"matryoshka_widths": [10, F]} if kind.startswith("m") else {}
    config = getattr(lens, f"{names[kind]}TrainingSAEConfig")(d_in=D, d_sae=F, k=K, **more)
    sae = randomized(getattr(lens, f"{names[kind]}TrainingSAE")(config))
    sae.topk_threshold.fill_(0.4)
    sae.save_inference_model(tmp_path)
    theirs = lens.SAE.load_from_disk(tmp_path)
    found = imported(tmp_path, "saelens").dictionary
    assert found.architecture == "jump_relu"
    f = theirs.encode(X)
    close(found.encode(X), f)
    close(found(X), theirs.decode(f))
    # A checkpoint of the training is the same dictionary.
    sae.save_model(tmp_path / "checkpoint")
    found = imported(tmp_path / "checkpoint", "saelens")
    assert found.dictionary.architecture == {"batchtopk": "batch_topk"}.get(kind, "matryoshka")
    assert found.claims[0][:2] == ("l0", K)
    close(found.dictionary.encode(X), f)
    close(found.dictionary(X), theirs.decode(f))


def test_saelens_before_version_6(tmp_path):
    lens = pytest.importorskip("sae_lens")
    sae = randomized(lens.TopKSAE(lens.TopKSAEConfig(d_in=D, d_sae=F, k=K)))
    sae.save_model(tmp_path)
    old = {
        "d_in": D, "d_sae": F, "hook_point": "blocks.2.hook_mlp_out", "model_name": "pythia-70m-deduped",
        "activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": False,
        "dtype": "float32", "sae_lens_version": "3.10.0",
    }  # fmt: skip
    (tmp_path / "cfg.json").write_text(json.dumps(old))
    theirs, found = lens.SAE.load_from_disk(tmp_path), imported(tmp_path, "saelens")
    assert found.hook == "blocks.2.hook_mlp_out"
    close(found.dictionary.encode(X), theirs.encode(X))
    close(found.dictionary(X), theirs(X))


def classes():
    library = pytest.importorskip("dictionary_learning.dictionary")
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE  # pyright: ignore[reportMissingImports]
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE  # pyright: ignore[reportMissingImports]
    from dictionary_learning.trainers.top_k import AutoEncoderTopK  # pyright: ignore[reportMissingImports]

    plain = ("AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder")
    found = {name: (getattr(library, name), ()) for name in plain}
    found |= {"AutoEncoderTopK": (AutoEncoderTopK, (K,)), "BatchTopKSAE": (BatchTopKSAE, (K,))}
    return found | {"MatryoshkaBatchTopKSAE": (MatryoshkaBatchTopKSAE, (K, [10, F - 10]))}


NAMES = [
    "AutoEncoder", "AutoEncoderNew", "GatedAutoEncoder", "JumpReluAutoEncoder", "AutoEncoderTopK", "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
]  # fmt: skip


@pytest.mark.parametrize("interrupted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_dictionary_learning(name, interrupted, tmp_path):
    kind, more = classes()[name]
    sae = randomized(kind(D, F, *more))
    if "threshold" in dict(sae.named_buffers()):
        sae.threshold.fill_(0.3)
    config = {"dict_class": name, "lm_name": "EleutherAI/pythia-70m-deduped", "layer": 3}
    config["submodule_name"] = "mlp_out_layer_3"
    (tmp_path / "config.json").write_text(json.dumps({"trainer": config, "buffer": {}}))
    state = sae.state_dict()
    optimizer = torch.optim.Adam(sae.parameters()).state_dict()
    whole = {"step": 7, "ae": state, "optimizer": optimizer, "config": config, "norm_factor": 3.5}
    torch.save(whole if interrupted else state, tmp_path / "ae.pt")
    if interrupted and hasattr(sae, "scale_biases"):
        sae.scale_biases(3.5)
    elif interrupted:
        sae.encoder.bias.data *= 3.5
        sae.decoder.bias.data *= 3.5
    found = imported(tmp_path, "dictionary_learning")
    f = sae.encode(X)
    close(found.dictionary.encode(X), f)
    close(found.dictionary.decode(found.dictionary.encode(X)), sae.decode(f))
    assert (found.model, found.hook) == ("EleutherAI/pythia-70m-deduped", "mlp_out_layer_3")


def test_sparsify(tmp_path):
    sparsify = pytest.importorskip("sparsify")
    config = sparsify.SparseCoderConfig(k=K, num_latents=F)
    sae = randomized(sparsify.SparseCoder(D, config))
    sae.save_to_disk(tmp_path / "layers.5.mlp")
    (tmp_path / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-70m"}))
    found = imported(tmp_path / "layers.5.mlp", "sparsify")
    encoded = sae.encode(X)
    dense = torch.zeros(N, F).scatter_(1, encoded.top_indices, encoded.top_acts)
    close(found.dictionary.encode(X), dense)
    close(found.dictionary(X), sae(X).sae_out)
    assert (found.model, found.hook) == ("EleutherAI/pythia-70m", "layers.5.mlp")


def ours(architecture, centered=True):
    generator = torch.Generator().manual_seed(3)
    kind = architecture_class(architecture)
    shapes = {"k": (1,), **kind.shapes(F, D, D)}
    tensors = {name: torch.randn(shapes.get(name, (2,)), generator=generator) for name in kind.tensor_names}
    tensors["W_dec"] = torch.nn.functional.normalize(tensors["W_dec"], dim=1)
    fixed = {"k": torch.tensor([float(K)]), "threshold": torch.full((F,), 0.25)}
    fixed["group_sizes"] = torch.tensor([10.0, F - 10.0])
    tensors |= {name: each for name, each in fixed.items() if name in tensors}
    return kind(tensors if centered else {**tensors, "b_pre": torch.zeros(D)})


def exported(dictionary, to, folder):
    """Written as `sae export` writes it."""
    out = Outgoing(dictionary, "EleutherAI/pythia-70m-deduped", "mlp_out", 3, K, None, {})
    written = writable(to).write(out)
    with open_run(folder, "export", {}) as run:
        for name, document in written.documents.items():
            run.write_json(name, document)
        for name, tensors in written.tensors.items():
            run.write_tensors(name, tensors)
        for name, tensors in written.pickles.items():
            run.write_pickle(name, tensors)
        run.finish()
    return written


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("architecture", ["relu", "topk", "batch_topk", "jump_relu", "gated", "matryoshka"])
def test_what_is_exported_is_read_by_saelens(architecture, centered, tmp_path):
    lens = pytest.importorskip("sae_lens")
    dictionary = ours(architecture, centered)
    exported(dictionary, "saelens", tmp_path / "out")
    theirs = lens.SAE.load_from_disk(tmp_path / "out")
    f = dictionary.encode(X)
    close(theirs.encode(X).detach(), f)
    close(theirs(X).detach(), dictionary.decode(f))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("architecture", ["relu", "topk", "batch_topk", "jump_relu", "gated", "matryoshka"])
def test_what_is_exported_is_read_by_dictionary_learning(architecture, centered, tmp_path):
    utils = pytest.importorskip("dictionary_learning.utils")
    dictionary = ours(architecture, centered)
    exported(dictionary, "dictionary_learning", tmp_path / "out")
    classes()
    theirs, _ = utils.load_dictionary(str(tmp_path / "out"), "cpu")
    f = dictionary.encode(X)
    close(theirs.encode(X).detach(), f, 2e-5)
    close(theirs.decode(theirs.encode(X)).detach(), dictionary.decode(f), 2e-5)


@pytest.mark.filterwarnings("error")
def test_what_is_exported_is_read_by_sparsify(tmp_path):
    sparsify = pytest.importorskip("sparsify")
    dictionary = ours("topk")
    exported(dictionary, "sparsify", tmp_path / "out")
    theirs = sparsify.SparseCoder.load_many(str(tmp_path / "out"), local=True)["layers.3.mlp"]
    close(theirs(X).sae_out.detach(), dictionary(X))
