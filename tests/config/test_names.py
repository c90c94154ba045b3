"""Run names: the same for the same results, different for different ones, safe to type back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sae_cli.config.compose import Composer, typed
from sae_cli.config.names import baseline_choices, measurement_name, run_directory
from sae_cli.config.settings import flatten, result_settings
from sae_cli.errors import RequestError

COMPOSER = Composer()


def named(command: str, *overrides: str) -> str:
    composed = COMPOSER.compose(command, overrides)
    config = typed(composed.settings)
    choices = baseline_choices(config, composed.hydra.runtime.choices)
    return str(run_directory(config, COMPOSER.baseline(command, choices)))


TRAIN = "runs/train/demo/mlp_out.2/relu-F2048-l1_1-seed0"


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ("", TRAIN),
        ("layer=-1 hook=resid", "runs/train/demo/resid.-1/relu-F2048-l1_1-seed0"),
        ("model=pythia70m dict_size=8192", "runs/train/pythia70m/mlp_out.2/relu-F8192-l1_1-seed0"),
        ("l1=0.3 seed=7", "runs/train/demo/mlp_out.2/relu-F2048-l1_0.3-seed7"),
        ("l1=1e-4", "runs/train/demo/mlp_out.2/relu-F2048-l1_0.0001-seed0"),
        ("l1=1e20", "runs/train/demo/mlp_out.2/relu-F2048-l1_100000000000000000000-seed0"),
        ("l1=1.0 tokens=750_000 train.lr=5.6e-3", TRAIN),
        ("data=synthetic data.d=16", "runs/train/synthetic/d16/relu-F2048-l1_1-seed0"),
        ("data=synthetic sae=gated", "runs/train/synthetic/d128/gated-F2048-l1_1-seed0"),
        ("sae=topk k=8", "runs/train/demo/mlp_out.2/topk-F2048-k8-seed0"),
        ("sae=jump_relu", "runs/train/demo/mlp_out.2/jump_relu-F2048-k32-seed0"),
        ("name=x/y runs_dir=/there", "/there/x/y"),
    ],
)
def test_train(overrides, name):
    assert named("train", *overrides.split()) == name


def test_the_setting_that_an_architecture_does_not_use():
    """It is refused, and no part of what is compared."""
    with pytest.raises(RequestError, match=r"l1=0.5 has no effect with sae=topk: give k="):
        named("train", "sae=topk", "l1=0.5")
    with pytest.raises(RequestError, match=r"k=8 has no effect with sae=relu: give l1="):
        named("train", "k=8")
    with pytest.raises(RequestError, match="k=8 has no effect with sae=jump_relu"):
        named("train", "sae=jump_relu", "sae.penalty=tanh", "k=8")
    settings = result_settings(typed(COMPOSER.compose("train", ["sae=topk"]).settings))
    assert settings["k"] == 32 and "l1" not in settings


def test_harvest():
    assert named("harvest") == "runs/harvest/demo/mlp_out.2/T750000-float32"
    assert named("harvest", "tokens=1_000", "dtype=bfloat16").endswith("/T1000-bfloat16")
    assert re.fullmatch(r".*/T750000-float32-[0-9a-f]{8}", named("harvest", "shard_tokens=1000"))


def test_a_setting_off_its_default_is_a_hash():
    assert re.fullmatch(TRAIN + "-[0-9a-f]{8}", named("train", "train.lr=0.002"))


@pytest.mark.parametrize(
    "override", ["device=cpu", "overwrite=true", "verify=false", "activations=runs/a", "model_rows=4"]
)
def test_execution_settings_are_no_part_of_a_name(override):
    assert named("train", override) == TRAIN


def test_the_order_of_overrides_does_not_matter():
    overrides = ["l1=0.5", "train.lr=0.01", "data=text", "data.path=/texts"]
    orders = [overrides[start:] + overrides[:start] for start in range(4)] + [overrides[::-1]]
    assert len({named("train", *order) for order in orders}) == 1


def test_different_settings_have_different_names_of_safe_characters(tmp_path):
    requests = [
        *(
            ["train.lr=0.01"],
            ["train.lr=0.02"],
            ["train.lr=0.01", "data.seed=1"],
            ["tokens=700_000"],
            ["data.bos=false"],
        ),
        *([f"data={source}"] for source in ("pile", "fineweb")),
        *(["data=text", f"data.path={path}"] for path in ("/a", "/b", "/a/*.txt", "'/c d, e=f'")),
        *(["model=hf", f"model.path={path}"] for path in ("/a/llama", "/b/llama", "hub/llama", "'/x/[a b]'", "/x/.a")),
        *(["data=synthetic", f"data.noise={noise}"] for noise in ("0.1", "0.2")),
        *(["model=pythia70m", f"model.revision=step{step}"] for step in (1, 2)),
        *(["train.save_at=[5]"], ["train.save_at=[5,6]"], ["resample.at=[5]"], ["resample.at=[6]"]),
        *([f"train.forbid_direction={path}"] for path in ("/a/run", "/b/run", "run")),
        *(["sae.decoder_norm=free"], ["sae.b_dec_init=zero"], ["data.exclude=[]"], ["data.exclude=[a,b]"]),
        *(
            ["model.path=/other"],
            ["model=hf", "model.path=/other"],
            ["model=hf", "model.path=/third", "model.name=demo"],
        ),
    ]
    names = [named("train", *overrides) for overrides in requests]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9._/-]+", name) for name in names)


def test_a_model_without_a_name_is_called_by_its_path():
    assert re.fullmatch(
        r"runs/train/llama-[0-9a-f]{8}/mlp_out.2/relu-F2048-l1_1-seed0",
        named("train", "model=hf", "model.path=/a/llama"),
    )


def test_a_local_path_is_the_same_however_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    absolute = named("train", "model=hf", f"model.path={tmp_path}/model")
    assert named("train", "model=hf", "model.path=model") == absolute
    assert named("train", "model=hf", "model.path=./model/") == absolute
    assert named("train", "train.forbid_direction=a/b") == named("train", f"train.forbid_direction={tmp_path}/a/b/")
    assert named("train", "train.save_at=[5,9]") == named("train", "train.save_at=[9,5,9]")
    texts = named("train", "data=text", f"data.path={tmp_path}/not/there/*.txt")
    assert named("train", "data=text", "data.path=not/there/*.txt") == texts


@pytest.mark.parametrize("name", ["..", "a/../b", "/a", "a/", "a//b", "", ".sweeps/a", "a b", "a=b", "a,b", "ü"])
def test_names_that_are_refused(name):
    with pytest.raises(RequestError, match="a name is made of"):
        named("train", f"name='{name}'")


@pytest.mark.parametrize("override", ["layer=1", "model=gpt2", "hook=resid", "model.dtype=float16", "name=x layer=1"])
def test_synthetic_data_takes_no_model(override):
    with pytest.raises(RequestError, match="leave model, hook and layer out"):
        named("train", "data=synthetic", *override.split())


def evaluation(*overrides: str) -> str:
    config = typed(COMPOSER.compose("eval", ["run=runs/a", *overrides]).settings)
    return measurement_name(config, COMPOSER.baseline("eval", []))


def test_evaluations():
    assert named("eval", "run=runs/a/b") == "runs/a/b"
    assert evaluation() == evaluation("eval.tokens=100_000", "device=cpu") == "default"
    others = {
        evaluation("eval.tokens=5"),
        evaluation("data=stdlib"),
        evaluation("data=synthetic"),
        evaluation("data=pile"),
    }
    assert len(others) == 4
    assert all(re.fullmatch("[0-9a-f]{8}", name) for name in others)


def pages(*overrides: str) -> str:
    config = typed(COMPOSER.compose("features", ["run=runs/a", *overrides]).settings)
    return measurement_name(config, COMPOSER.baseline("features", []))


def test_pages_of_features():
    assert named("features", "run=runs/a/b") == "runs/a/b"
    assert pages() == pages("contexts.tokens=1_000_000", "device=cpu", "model_rows=3") == "default"
    assert pages("only=[3,1,3]") == pages("only=[1,3]") != pages("only=[1]")
    assert len({pages("contexts.seed=1"), pages("at_frequency=[0.1]"), pages("data=pile"), "default"}) == 4


def test_result_settings_are_flat_plain_and_absolute():
    config = typed(COMPOSER.compose("train", ["data=text", "data.path=texts/*.txt", "model.dtype=float16"]).settings)
    settings = result_settings(config)
    assert settings["model.dtype"] == "float16"
    assert settings["data.path"] == str(Path.cwd() / "texts/*.txt")
    assert settings["model.path"] == "embedded:demo"
    assert settings["hook.point"] == "mlp_out"
    assert not {"device", "runs_dir", "name", "activations"} & set(settings)


def test_flatten_gives_the_same_for_nodes_and_objects():
    settings = COMPOSER.compose("train").settings
    assert flatten(settings) == flatten(typed(settings))


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (f"run={TRAIN} max_freq=0.038", f"{TRAIN.replace('train', 'prune-high-freq', 1)}/max_freq_0.038"),
        (
            f"run={TRAIN} target_l0=40 recenter=true",
            f"{TRAIN.replace('train', 'prune-high-freq', 1)}/target_l0_40-recenter",
        ),
        (
            "run=runs/prune-high-freq/x/y/top_n_5 min_freq=1e-5 finetune_tokens=9",
            "runs/prune-high-freq/x/y/top_n_5-min_freq_0.00001-finetune_9",
        ),
    ],
)
def test_prune(overrides, name):
    assert named("prune-high-freq", *overrides.split()) == name


def test_what_was_pruned_elsewhere_is_told_apart():
    names = {named("prune-high-freq", f"run=/{where}/x", "top_n=3") for where in ("a", "b")}
    assert len(names) == 2 and all(name.startswith("runs/prune-high-freq/x-") for name in names)
    assert (
        named("prune-high-freq", f"run={TRAIN}", "top_n=3", "features.tokens=9").rpartition("-")[0].endswith("top_n_3")
    )


def test_randomize_weights():
    assert named("randomize-weights") == "runs/randomize-weights/demo/reinit-seed0"
    overrides = ("scheme=permute", "keep=[norm,embed,norm]", "seed=4")
    assert named("randomize-weights", *overrides) == "runs/randomize-weights/demo/permute-keep_embed-keep_norm-seed4"


def test_compare():
    one, other = named("compare", "a=runs/x/a", "b=[runs/x/b,truth]"), named("compare", "a=runs/x/a", "b=runs/x/b")
    assert one != other and one.startswith("runs/compare/a-")
    assert named("compare", "a=runs/x/a", "b=[runs/x/b]") == other


@pytest.mark.parametrize(
    ("command", "overrides", "said"),
    [
        ("prune-high-freq", "run=x", "nothing to prune by"),
        ("prune-high-freq", "run=x top_n=3 max_freq=0.1", "max_freq and top_n exclude each other"),
        ("prune-high-freq", "run=x top_n=3 finetune=all", "no effect without finetune_tokens"),
        ("prune-high-freq", "run=x top_n=3 finetune=all finetune_tokens=9 recenter=true", "has no effect before"),
        ("prune-high-freq", "run=x max_freq=1.5", "max_freq=1.5: expected at least 0 and below 1"),
        ("compare", "a=x", "b is missing"),
        ("compare", "a=x b=3", "expected a run directory or a list"),
        ("compare", "a=x b=[]", "expected a run directory or a list"),
    ],
)
def test_edits_that_make_no_sense(command, overrides, said):
    with pytest.raises(RequestError, match=said):
        named(command, *overrides.split())
