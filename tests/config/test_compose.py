"""Every group option composes into its schema, and what is not complete or not known is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import Composer, Config, options, typed, unknown_keys
from sae_cli.config.data import HfData, StdlibData, SyntheticData, TextData
from sae_cli.config.hook import HookPoint
from sae_cli.config.location import conf_dir, option_files
from sae_cli.errors import RequestError
from tests.known import the

COMPOSER = Composer()
MODELS = {
    "demo": "embedded:demo",
    "demo-s": "embedded:demo-s",
    "demo-xs": "embedded:demo-xs",
    "pythia14m": "EleutherAI/pythia-14m",
    "pythia31m": "EleutherAI/pythia-31m",
    "pythia70m": "EleutherAI/pythia-70m-deduped",
    "pythia160m": "EleutherAI/pythia-160m-deduped",
    "pythia410m": "EleutherAI/pythia-410m-deduped",
    "gpt2": "openai-community/gpt2",
}
DATA = {"stdlib": StdlibData, "text": TextData, "hf": HfData, "pile": HfData, "fineweb": HfData}


def config_of(schema: type[Config], *overrides: str) -> Config:
    return the(schema, typed(COMPOSER.compose(schema.command, overrides).settings))


def test_the_options_are_those_of_the_design():
    found = {group: options(COMPOSER.loader.get_group_options(group)) for group in COMPOSER.groups()}
    assert all(names == option_files(group) for group, names in found.items())
    assert found == {
        "data": sorted([*DATA, "gaussian", "synthetic", "synthsaebench16k", "synthsaebench256", "compositional"]),
        "hook": sorted(point.value for point in HookPoint),
        "model": sorted([*MODELS, "hf", "run"]),
        "sae": ["batch_topk", "gated", "jump_relu", "matryoshka", "relu", "topk"],
    }


@pytest.mark.parametrize("schema", [HarvestConfig, TrainConfig])
def test_defaults(schema):
    config = config_of(schema)
    assert type(config) is schema
    assert (config.model.path, config.hook.point, config.layer) == ("embedded:demo", HookPoint.mlp_out, 3)
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
    assert config_of(TrainConfig, f"hook={hook}").hook.point.value == hook


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
