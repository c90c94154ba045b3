"""`sae export` and `sae import` as their user meets them: round trips, what is said, and what is named as wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import sae_cli
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.config.sae import BatchTopKSae, GatedSae, JumpReluSae, MatryoshkaSae, ReluSae, TopKSae

SMALL = ["device=cpu", "model_rows=4", "eval.tokens=1000", "features.tokens=1000"]
KINDS = {
    "relu": ReluSae, "topk": TopKSae, "batch_topk": BatchTopKSae, "jump_relu": JumpReluSae, "gated": GatedSae,
    "matryoshka": MatryoshkaSae,
}  # fmt: skip
WRITTEN = {
    "saelens": tuple(KINDS),
    "dictionary_learning": ("relu", "topk", "batch_topk", "gated", "matryoshka"),
    "sparsify": ("topk",),
}


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A short training of each architecture."""
    from sae_cli.commands import train

    root = tmp_path_factory.mktemp("trained")
    for name, kind in KINDS.items():
        more = {"fractions": [0.25, 0.75]} if name == "matryoshka" else {}
        train.run(world.train(root, sae=kind(**more), k=4, dict_size=64), root / name)
    return root


def place_of(world):
    """What a source says of a local model is not believed."""
    return ["model=hf", f"model.path={world.model}"]


def text_of(world):
    return ["data=text", f"data.path={world.text}", "data.context=32", "data.held_out_fraction=.2"]


def folder_of(exported, to):
    return next(exported.glob("layers.*")) if to == "sparsify" else exported


@pytest.mark.parametrize(("to", "kind"), [(to, kind) for to, kinds in WRITTEN.items() for kind in kinds])
def test_a_round_trip_is_bit_identical(to, kind, trained, world, sae, tmp_path):
    here = [f"runs_dir={tmp_path}"]
    sae("export", trained / kind, f"to={to}", "name=out", *here)
    asked = [*place_of(world), *text_of(world), "check=false", "name=back", *here]
    sae("import", folder_of(tmp_path / "out", to), *asked)
    before, after = sae_cli.load(trained / kind).tensors(), sae_cli.load(tmp_path / "back").tensors()
    for name, tensor in after.items():
        assert name == "activation_mean" or torch.equal(tensor, before[name]), name
    sae("export", tmp_path / "back", f"to={to}", "name=again", *here)
    one, other = read_manifest(tmp_path / "out").files, read_manifest(tmp_path / "again").files
    weights = [each for each in one if each.endswith((".safetensors", ".pt"))]
    assert weights and all(one[each].sha256 == other[each].sha256 for each in weights if not each.endswith(".pt"))


def test_every_command_takes_an_imported_dictionary(trained, world, sae, tmp_path):
    here = [*SMALL, f"runs_dir={tmp_path}"]
    sae("export", trained / "relu", "to=saelens", "name=out", f"runs_dir={tmp_path}")
    ended = sae("import", tmp_path / "out", *place_of(world), *text_of(world), "name=a", *here, "--json")
    card = sae_cli.card(tmp_path / "a")
    assert card.provenance["format"] == "saelens" and len(card.provenance["sha256"]) == 64
    assert ended.document["eval"]["l0"] > 0 and ended.document["source"]["files"]
    sae("import", tmp_path / "out", *place_of(world), *text_of(world), "name=a", *here)  # is finished
    a = tmp_path / "a"
    sae("eval", a, *SMALL)
    sae("prune-high-freq", a, "top_n=3", *here, "name=pruned")
    sae("features", a, "only=[0,1]", "contexts.tokens=300", *SMALL)
    sae("compare", f"a={a}", f"b=[{trained / 'relu'}]", *here, "name=compared")
    sae("report", a, tmp_path / "pruned", "--out", tmp_path / "report.html")
    assert (tmp_path / "report.html").is_file()


@pytest.fixture
def foreign(trained, world, sae, tmp_path):
    """A function: a dictionary in SAELens' format, changed, then imported; the line that is said."""

    def ended(kind, change, *asked, code=1):
        sae("eval", trained / kind, "device=cpu", "model_rows=4")
        sae("export", trained / kind, "to=saelens", "name=out", f"runs_dir={tmp_path}", "overwrite=true")
        folder = tmp_path / "changed"
        shutil.copytree(tmp_path / "out", folder, dirs_exist_ok=True)
        tensors, config = load_file(folder / "sae_weights.safetensors"), json.loads((folder / "cfg.json").read_text())
        change(tensors, config)
        save_file({name: each.contiguous() for name, each in tensors.items()}, folder / "sae_weights.safetensors")
        (folder / "cfg.json").write_text(json.dumps(config))
        arguments = [*place_of(world), *text_of(world), *SMALL, f"runs_dir={tmp_path}", *asked, "name=in"]
        return sae("import", folder, *arguments, "overwrite=true", code=code)

    return ended


def test_what_is_right_is_taken(foreign):
    assert "it is what its source says" in foreign("topk", lambda tensors, config: None, code=0).err


def test_a_transposed_matrix(foreign):
    def transpose(tensors, config):
        tensors["W_enc"] = tensors["W_enc"].T

    assert "W_dec of shape [F, d]" in foreign("topk", transpose).err


def test_relu_for_topk(foreign):
    def mistake(tensors, config):
        config["architecture"] = "standard"

    said = foreign("topk", mistake).err
    assert "l0: its source states" in said


def test_scale_of_the_threshold(foreign):
    def mistake(tensors, config):
        tensors["threshold"] *= 40

    said = foreign("jump_relu", mistake).err
    assert "l0: its source states" in said and "sparsity.safetensors" in said


def test_check_false_takes_it_as_it_is(foreign, world, sae, tmp_path):
    def mistake(tensors, config):
        tensors["threshold"] *= 40

    assert foreign("jump_relu", mistake).out == ""
    # What is measured has no part in it, and is not asked for.
    asked = [*place_of(world), *text_of(world), f"runs_dir={tmp_path}", "check=false"]
    ended = sae("import", tmp_path / "changed", *asked, "name=taken")
    assert ended.out.strip() == str(tmp_path / "taken") and not (tmp_path / "taken" / "eval").exists()
    factor = (
        sae_cli.load(tmp_path / "taken").tensors()["threshold"]
        / load_file(tmp_path / "out" / "sae_weights.safetensors")["threshold"]
    )
    torch.testing.assert_close(factor, torch.full_like(factor, 40))
