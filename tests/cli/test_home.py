"""`~` is the home of whoever asks, wherever a path can be given; an empty SAE_RUNS says nothing."""

import pytest

import sae_cli
from sae_cli.artifacts.stored_run import read_run
from sae_cli.cli.overrides import as_run, at_home
from sae_cli.cli.plan import make_plan
from sae_cli.cli.request import Request
from sae_cli.config.location import runs_folder
from sae_cli.errors import RequestError
from sae_cli.models.sources import model_source

RUN = "train/demo/mlp_out.2/relu-F2048-l1_1-seed0"


@pytest.fixture
def home(folder, monkeypatch):
    (folder / "home").mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    return folder / "home"


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["train", "data=text", "data.path=~/x"], lambda config: config.data.path),
        (["harvest", "data=hf", "data.path=~/x"], lambda config: config.data.path),
        (["train", "model=hf", "model.path=~/x"], lambda config: config.model.path),
        (["train", "activations=~/x"], lambda config: config.activations),
        (["train", "train.forbid_direction=~/x"], lambda config: config.train.forbid_direction),
        (["train", "runs_dir=~/x"], lambda config: config.runs_dir),
        (["randomize-weights", "model=hf", "model.path=~/x"], lambda config: config.model.path),
        (["eval", "run=~/x"], lambda config: config.run),
        (["eval", "~/x"], lambda config: config.run),
        (["features", "~/x"], lambda config: config.run),
        (["bench", "~/x"], lambda config: config.run),
        (["probe", "~/x"], lambda config: config.run),
        (["prune-high-freq", "~/x", "top_n=1"], lambda config: config.run),
        (["compare", "a=~/x", "b=y"], lambda config: config.a),
        (["compare", "a=y", "b=[~/x,truth]"], lambda config: config.b[0]),
    ],
)
@pytest.mark.parametrize("typed", ["~/x", "'~/x'"])
def test_every_path_may_begin_with_home(arguments, setting, typed, home):
    command, *given = [each.replace("~/x", typed) if "=" in each else each for each in arguments]
    on_a_run = command in ("eval", "features", "bench", "probe", "prune-high-freq")
    given = [at_home(as_run(each) if on_a_run else each) for each in given]
    config = make_plan(Request(command=command, overrides=given)).jobs[0].config
    assert setting(config) == str(home / "x")


def test_runs_lie_below_home(sae, stage, home, folder, monkeypatch):
    assert sae("train", "runs_dir=~/r").out == f"{home}/r/{RUN}\n"
    monkeypatch.setenv("SAE_RUNS", "~/s")
    assert sae("train").out == f"{home}/s/{RUN}\n"
    assert sae("train", "-m", "seed=1,2").code == 0
    assert not (folder / "~").exists()


@pytest.mark.parametrize("command", [["list"], ["verify"], ["resume"]])
def test_runs_are_looked_for_below_home(command, sae, home):
    ended = sae(*command, "~/nowhere")
    assert ended.code == 2 and f"{home}/nowhere" in ended.err


def test_reports_and_figures_go_below_home(sae, home, folder):
    assert f"{home}/none" in sae("report", "~/none", "--out", "~/r.html").err
    assert f"{home}/none" in sae("plot", "~/none", "kind=curve", "out=~/x.pdf").err
    assert not (folder / "~").exists()


def test_in_python_too(home):
    with pytest.raises(RequestError, match="no run here"):
        sae_cli.load("~/x")
    (home / "m").mkdir()
    (home / "m" / "config.json").write_text("{}")
    assert model_source("~/m").location == str((home / "m").resolve())
    with pytest.raises(RequestError, match="no run here"):
        read_run("~/x")


def test_an_empty_variable_is_as_none(sae, stage, monkeypatch):
    monkeypatch.setenv("SAE_RUNS", "")
    assert sae("train").out == f"runs/{RUN}\n"
    assert runs_folder() == "runs"
    assert "no runs in runs" in sae("list").err


@pytest.mark.parametrize(
    "line",
    ["train runs_dir=", "train data=text data.path=", "train model=hf model.path=", "prune-high-freq run= top_n=1",
     "compare a= b=x", "compare a=x b=[x,'']", "train activations=", "train train.forbid_direction=", "features run="],
)  # fmt: skip
def test_an_empty_path_is_one_line(line, sae, stage, folder):
    ended = sae(*line.split())
    assert ended.code == 2 and "is empty: expected a path" in ended.err
    assert list(folder.iterdir()) == []
