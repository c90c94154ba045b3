"""Every group option composes into its schema, and what is not complete or not known is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sae_cli.config import scaling
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import Composer, Config, options, typed, unknown_keys
from sae_cli.config.data import HfData, InstalledData, StdlibData, SyntheticData, TextData
from sae_cli.config.effects import asked_without_effect
from sae_cli.config.hook import HookPoint, ModuleHook, Side
from sae_cli.config.location import conf_dir, option_files
from sae_cli.config.resample import ResampledEncoder, ResampleRule
from sae_cli.config.sae import BiasInit, JumpReluSae, L1Units, ReluSae
from sae_cli.config.settings import flatten
from sae_cli.errors import RequestError
from tests.known import the

COMPOSER = Composer()
MODELS = {
    "demo": "embedded:demo",
    "demo-s": "embedded:demo-s",
    "demo-xs": "embedded:demo-xs",
    "demo-xxs": "embedded:demo-xxs",
    "demo-xxs-1": "embedded:demo-xxs-1",
    "demo-xxs-2": "embedded:demo-xxs-2",
    "pythia14m": "EleutherAI/pythia-14m",
    "pythia31m": "EleutherAI/pythia-31m",
    "pythia70m": "EleutherAI/pythia-70m-deduped",
    "pythia160m": "EleutherAI/pythia-160m-deduped",
    "pythia410m": "EleutherAI/pythia-410m-deduped",
    "gpt2": "openai-community/gpt2",
    "smollm2": "HuggingFaceTB/SmolLM2-135M",
    "gemma3-270m": "google/gemma-3-270m",
}
RECIPES = {
    "anthropic2024": "relu",
    "bussmann2024": "batch_topk",
    "bussmann2025": "matryoshka",
    "gao2024": "topk",
    "marks2023": "relu",
    "rajamanoharan2024a": "gated",
    "rajamanoharan2024b": "jump_relu",
}
DATA = {
    "stdlib": StdlibData,
    "installed": InstalledData,
    "docstrings": InstalledData,
    "text": TextData,
    "hf": HfData,
    "pile": HfData,
    "fineweb": HfData,
}


def config_of(schema: type[Config], *overrides: str) -> Config:
    return the(schema, typed(COMPOSER.compose(schema.command, overrides).settings))


def test_the_options_are_those_of_the_design():
    found = {group: options(COMPOSER.loader.get_group_options(group)) for group in COMPOSER.groups()}
    assert all(names == option_files(group) for group, names in found.items())
    assert found == {
        "data": sorted([*DATA, "gaussian", "synthetic", "synthsaebench16k", "synthsaebench256", "compositional"]),
        "hook": sorted(point.value for point in HookPoint),
        "model": sorted([*MODELS, "hf", "run"]),
        "recipe": sorted(RECIPES),
        "sae": ["batch_topk", "gated", "jump_relu", "matryoshka", "relu", "topk"],
    }


@pytest.mark.parametrize("schema", [HarvestConfig, TrainConfig])
def test_defaults(schema):
    config = config_of(schema)
    assert type(config) is schema
    assert (config.model.path, config.hook.point, config.layer) == ("embedded:demo", HookPoint.mlp_out, 2)
    assert config.data == StdlibData(exclude=["encodings/*"])
    assert config.runs_dir == "runs"


def test_harvest_and_train_read_the_same_activations_by_default():
    harvest, train = config_of(HarvestConfig), config_of(TrainConfig)
    for setting in ("model", "hook", "layer", "data", "tokens"):
        assert getattr(harvest, setting) == getattr(train, setting)


@pytest.mark.parametrize("model", MODELS)
def test_models(model):
    config = config_of(TrainConfig, f"model={model}").model
    assert (config.name, config.path) == (model, MODELS[model])


@pytest.mark.parametrize("hook", [point.value for point in HookPoint])
def test_hooks(hook):
    needed = ["hook.path=model.layers.3.mlp"] if hook == "module" else []
    assert config_of(TrainConfig, f"hook={hook}", *needed).hook.point.value == hook


def test_a_module_has_a_path_and_a_side():
    hook = the(ModuleHook, config_of(TrainConfig, "hook=module", "hook.path=model.layers.3.mlp.down_proj").hook)
    assert (hook.path, hook.side) == ("model.layers.3.mlp.down_proj", Side.output)
    asked = config_of(TrainConfig, "hook=module", "hook.path=h.0", "hook.side=input").hook
    assert the(ModuleHook, asked).side is Side.input


@pytest.mark.parametrize("source", DATA)
@pytest.mark.parametrize("schema", [HarvestConfig, TrainConfig, EvalConfig])
def test_data(schema, source):
    needed = {"text": ["data.path=/texts"], "hf": ["data.path=some/set"]}.get(source, [])
    run = ["run=runs/a"] if schema is EvalConfig else []
    assert type(config_of(schema, f"data={source}", *needed, *run).data) is DATA[source]


def test_synthetic():
    assert config_of(TrainConfig, "data=synthetic", "data.d=16").data == SyntheticData(d=16)


def test_eval_reads_the_data_of_the_run_unless_told_otherwise():
    config = config_of(EvalConfig, "run=runs/a")
    assert type(config) is EvalConfig
    assert config.data is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hook=module"], "hook.path is missing: give hook.path=…"),
        (["hook=module", "hook.path="], "hook.path= is empty: expected the path of a module"),
        (["hook.point=module"], "hook.point=module: expected the path of a module too; give hook=module hook.path="),
        (["model=hf"], "model.path is missing: give model.path=…"),
        (["model=hf", "data=text"], "data.path and model.path are missing"),
        (["dict_size=0"], "dict_size=0: expected at least 1"),
        (["layer=-2"], "layer=-2: expected at least -1"),
        (["train.lr=0"], "train.lr=0.0: expected above 0"),
        (["sae.decoder_fit=1"], "sae.decoder_fit=1.0: expected at least 0 and below 1"),
        (["data.held_out_fraction=1.5"], "data.held_out_fraction=1.5: expected at least 0 and below 1"),
        (["l1=inf"], "l1=inf: expected a finite number"),
    ],
)
def test_refused(overrides, message):
    with pytest.raises(RequestError, match=message):
        config_of(TrainConfig, *overrides)


def test_unknown_keys_are_found_at_every_depth():
    settings = COMPOSER.compose("train", ["+new=1", "+train.deep=1", "+data.more={a:1}"]).settings
    assert sorted(unknown_keys(settings)) == ["data.more", "new", "train.deep"]
    assert not list(unknown_keys(COMPOSER.compose("train").settings))


def test_hydra_writes_nothing_of_its_own():
    hydra = COMPOSER.compose("train", ["runs_dir=there"]).hydra
    assert (hydra.run.dir, hydra.output_subdir, hydra.job.chdir, hydra.job.name) == (".", None, False, "train")
    assert hydra.job_logging.root is None
    assert hydra.hydra_logging.root is None
    assert Path(hydra.sweep.dir).parent == Path("there/.sweeps")


def test_the_folder_of_configurations_has_a_primary_for_each_command():
    assert {f"{command}.yaml" for command in ("harvest", "train", "eval")} <= {p.name for p in conf_dir().iterdir()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_set_what_is_not_asked_for_otherwise(recipe):
    config = config_of(TrainConfig, f"+recipe={recipe}", "layer=1")
    assert (config.sae.architecture, config.layer) == (RECIPES[recipe], 1)
    assert not out_of_bounds_or_idle(config, recipe)
    asked = config_of(TrainConfig, "train.lr=0.25", f"+recipe={recipe}", "train.adam_beta2=0.5", "k=3", "l1=7")
    assert (asked.train.lr, asked.train.adam_beta2, asked.k, asked.l1) == (0.25, 0.5, 3, 7)


def out_of_bounds_or_idle(config, recipe):
    """What is wrong with a recipe: settings that it sets and that have no effect."""
    plain = COMPOSER.baseline("train", (f"sae={RECIPES[recipe]}",))
    return [idle for idle in asked_without_effect(config, plain) if idle.key != "train.lr_warmup"]


def test_the_recipe_of_marks_2023():
    config = config_of(TrainConfig, "+recipe=marks2023", "layer=1")
    train, sae, resample = config.train, the(ReluSae, config.sae), config.resample
    assert (train.batch_size, train.lr, train.warmup_steps, train.lr_decay) == (8192, 3e-4, 1000, 0)
    assert (sae.l1_units, sae.sparsity_warmup, sae.decoder_fit) == (L1Units.raw_mean, 0, 0)
    assert not train.scale_activations and (config.l1, sae.b_dec_init) == (1e-3, BiasInit.zero)
    assert (resample.rule, resample.every, resample.at) == (ResampleRule.marks2023, 30_000, [])
    assert (resample.encoder, resample.inputs) == (ResampledEncoder.mean_alive, None)


@pytest.mark.parametrize(("tokens", "batch", "factor"), [
    ("750_000", 256, 1), ("1_000", 256, 1), ("768_000", 256, 1), ("500_000_000", 256, (3000 / 1_953_125) ** 0.25),
    ("500_000_000", 8192, (3000 / 61_035) ** 0.25), ("6_000_000", 256, (3000 / 23_437) ** 0.25),
])  # fmt: skip
def test_defaults_of_longer_runs_are_gentler(tokens, batch, factor):
    """At 750,000 tokens and below exactly what they were; what is asked for is as it is asked for."""
    given = [f"tokens={tokens}", f"train.batch_size={batch}"]
    config = config_of(TrainConfig, *given)
    assert the(ReluSae, config.sae).decoder_fit == 0.15
    found, short = (config.train.lr, config.train.lr_warmup), (5.6e-3, 0.05)
    assert found == (short if factor == 1 else pytest.approx(tuple(each * factor for each in short)))
    for sae, lr in {"topk": 2e-3, "batch_topk": 2e-3, "matryoshka": 2e-3, "gated": 5.6e-3, "jump_relu": 5.6e-3}.items():
        other = config_of(TrainConfig, *given, f"sae={sae}")
        assert other.train.lr == (lr if factor == 1 else pytest.approx(lr * factor))
        if isinstance(other.sae, JumpReluSae):
            assert other.sae.threshold_lr == other.train.lr
    asked = config_of(TrainConfig, *given, "train.lr=5.6e-3", "train.lr_warmup=0.05")
    assert (asked.train.lr, asked.train.lr_warmup) == (5.6e-3, 0.05)


@pytest.mark.parametrize(("overrides", "words"), [
    (["resample.every=0"], "resample.every=0: expected at least 1"),
    (["resample.rule=local"], "resample.rule has no effect without resample.at=: give it, or resample.every="),
    (["resample.at=[5]", "resample.share=.5"], "resample.share=0.5 has no effect without resample.rule=local"),
    (["train.scale_activations=false"], "l1 is in units of scaled activations; give sae.l1_units=raw_sum"),
    (["sae=jump_relu", "train.scale_activations=false"], "thresholds of sae=jump_relu are in units of scaled"),
    (["train.freeze=[decoder]", "resample.every=5"], "resample.every=5: features would begin again in other"),
    (["sae=topk", "resample.every=5"], "resample.every=5: sae=topk revives dead features by its auxiliary loss"),
])  # fmt: skip
def test_what_does_not_go_together(overrides, words):
    with pytest.raises(RequestError, match=re.escape(words)):
        config_of(TrainConfig, *overrides)


@pytest.mark.parametrize(("device", "there", "tokens", "batch"), [
    ("auto", False, 500_000_000, 256), ("auto", True, 500_000_000, 4096), ("cpu", True, 500_000_000, 256),
    ("cuda:1", False, 500_000_000, 4096), ("cuda", True, 750_000, 256), ("cuda", True, 6_000_000, 1024),
])  # fmt: skip
def test_on_a_gpu_batches_are_larger_by_default(monkeypatch, tmp_path, device, there, tokens, batch):
    """As long as 3,000 steps are left; what is asked for is as it is asked for, and the settings say which it was."""
    driver = tmp_path / "driver"
    if there:
        driver.touch()
    monkeypatch.setattr(scaling, "_GPU_DRIVERS", (driver,))
    given = [f"device={device}", f"tokens={tokens}"]
    config = config_of(TrainConfig, *given)
    assert config.train.batch_size == batch == flatten(config)["train.batch_size"]
    assert config.train.lr == scaling.by_steps(5.6e-3, tokens, batch)
    assert config_of(TrainConfig, *given, "train.batch_size=512").train.batch_size == 512
    assert config_of(TrainConfig, *given, "+recipe=bussmann2024").train.batch_size == 4096
