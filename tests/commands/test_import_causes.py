"""Wrong on purpose: dictionaries of a trained model that are imported with one mistake, which must be named."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow
TRAIN = [
    "model=demo-xs", "layer=1", "hook=resid", "tokens=120_000", "device=cpu", "train.batch_size=512",
    "train.shuffle_buffer=16_384", "train.held_out_tokens=2_048",
]  # fmt: skip
SMALL = ["eval.tokens=5_000", "features.tokens=10_000", "device=cpu"]
KINDS = {
    "topk": ["sae=topk", "k=16", "dict_size=512"],
    "square": ["sae=topk", "k=16", "dict_size=64"],
    "jump_relu": ["sae=jump_relu", "k=16", "dict_size=512"],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Each kind in SAELens' format, with the frequencies of its features."""
    from sae_cli.cli.main import run as command_line

    root = tmp_path_factory.mktemp("causes")

    def sae(*arguments):
        assert command_line([str(each) for each in arguments]) == 0

    for kind, settings in KINDS.items():
        sae("train", *TRAIN, *settings, f"name={kind}", f"runs_dir={root}")
        sae("eval", root / kind, "features.tokens=50_000", "eval.tokens=5_000", "device=cpu")
        sae("export", root / kind, "to=saelens", f"name=out-{kind}", f"runs_dir={root}")
    return root


def relu_for_topk(tensors, config):
    config["architecture"] = "standard"


def threshold(factor):
    def change(tensors, config):
        tensors["threshold"] *= factor

    return change


def bias_not_folded(tensors, config):
    config["apply_b_dec_to_input"] = False


def biases_in_other_units(tensors, config):
    tensors["b_enc"] *= 12
    tensors["b_dec"] *= 12


def hook_off_by_one(tensors, config):
    config["metadata"]["hook_name"] = "blocks.2.hook_resid_post"


def transposed(tensors, config):
    tensors["W_enc"] = tensors["W_enc"].T


def nothing(tensors, config):
    pass


@pytest.mark.parametrize(
    ("kind", "mistake", "said"),
    [
        ("topk", nothing, ""),
        ("jump_relu", nothing, ""),
        ("topk", relu_for_topk, "ReLU for TopK"),
        ("jump_relu", threshold(6), "threshold × scale"),
        ("jump_relu", threshold(1 / 6), "threshold × scale"),
        ("topk", bias_not_folded, "bias not folded"),
        ("topk", biases_in_other_units, "biases are in other units"),
        ("topk", hook_off_by_one, "hook off by one"),
        ("square", transposed, "transposed encoder"),
    ],
)
def test_the_mistake_is_named(exported, sae, tmp_path, kind, mistake, said):
    shutil.copytree(exported / f"out-{kind}", folder := tmp_path / "changed")
    weights, about = folder / "sae_weights.safetensors", folder / "cfg.json"
    tensors, config = load_file(weights), json.loads(about.read_text())
    mistake(tensors, config)
    save_file({name: each.contiguous() for name, each in tensors.items()}, weights)
    about.write_text(json.dumps(config))
    ended = sae("import", folder, *SMALL, "name=in", f"runs_dir={tmp_path}", code=1 if said else 0)
    found = [each for each in ended.err.splitlines() if "likely cause" in each]
    if said:
        assert len(found) == 1 and said in found[0].partition("likely cause: ")[2], ended.err
    else:
        assert not found and "it is what its source says" in ended.err
