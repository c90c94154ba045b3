"""Measuring a dictionary on data that is asked for: what is taken over from its training, and what is refused."""

import shutil

import pytest
import torch

from sae_cli.artifacts.stored_run import read_run
from sae_cli.build import corpus
from sae_cli.commands import train
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import StdlibData, SyntheticData, TextData
from sae_cli.config.split import Split
from sae_cli.config.stored import read_config
from tests.known import present, the

SMALL = ["device=cpu", "model_rows=4", "eval.tokens=150", "features.tokens=200"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def installed(world, folder, **data):
    """A run that was trained on the text of the world with these settings; some of them are off their defaults."""
    settings = {"context": 24, "held_out_fraction": 0.1, "seed": 3, "bos": False, "gaussian_embeddings": True} | data
    data = TextData(path=str(world.text), **settings)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "W_enc": torch.randn(8, 16, generator=generator), "b_enc": torch.zeros(8),
        "W_dec": torch.nn.functional.normalize(torch.randn(8, 16, generator=generator)),
        "b_dec": torch.zeros(16), "activation_mean": torch.zeros(16),
    }  # fmt: skip
    world.install(folder, tensors, data=data, dict_size=8)
    return folder


def measured(run):
    """The settings of the only evaluation of a run."""
    (evaluation,) = (run / "eval").iterdir()
    return read_run(evaluation).manifest.settings


def test_what_two_sources_share_is_taken_over(world, sae, tmp_path):
    run = installed(world, tmp_path / "r")
    shutil.copytree(world.text, tmp_path / "copy")
    sae("eval", run, "data=text", "data.path=copy", *SMALL)
    found = measured(run)
    assert {key: found[f"data.{key}"] for key in ("context", "held_out_fraction", "seed", "bos")} == {
        "context": 24, "held_out_fraction": 0.1, "seed": 3, "bos": False,
    }  # fmt: skip
    assert found["data.gaussian_embeddings"] is True and found["data.path"] == str(tmp_path / "copy")


def test_what_is_asked_for_stands_even_where_it_is_the_default(world, sae, tmp_path):
    run = installed(world, tmp_path / "r", gaussian_embeddings=False)
    ended = sae("eval", run, "data=text", "data.bos=true", "data.context=32", *SMALL)
    found = measured(run)
    assert (found["data.bos"], found["data.context"], found["data.seed"]) == (True, 32, 3)
    assert found["data.path"] == str(world.text)
    assert "measured otherwise than it was trained: data.context 24 -> 32, data.bos False -> True" in ended.err


def test_an_option_of_the_group_that_says_so_itself_stands(world, sae, tmp_path):
    """data=gaussian on a run without: the option is what was asked for."""
    from sae_cli.cli.plan import make_plan
    from sae_cli.cli.request import Request

    run = installed(world, tmp_path / "r", gaussian_embeddings=False)
    request = Request(command="eval", overrides=[f"run={run}", "data=gaussian"])
    data = the(StdlibData, the(EvalConfig, make_plan(request).jobs[0].config).data)
    assert (data.gaussian_embeddings, data.context, data.bos, data.exclude) == (True, 24, False, ["encodings/*"])


@pytest.mark.parametrize("command", ["eval", "features"])
def test_a_single_setting_is_changed(command, world, sae, tmp_path):
    run = installed(world, tmp_path / "r", domains=["text"], column="body", gaussian_embeddings=False)
    sae(command, run, "data.context=32", *SMALL, *(["contexts.tokens=200"] if command == "features" else []))
    found = measured(run)
    trained = read_run(run).manifest.settings
    differ = {key for key in trained if key.startswith("data.") and trained[key] != found[key]}
    assert differ == {"data.context"}


def test_a_single_setting_of_runs_of_a_sweep(world, sae, tmp_path):
    """Each takes over what it has itself."""
    runs = [installed(world, tmp_path / f"r{n}", seed=n, gaussian_embeddings=False) for n in (5, 6)]
    sae("eval", "-m", f"run={runs[0]},{runs[1]}", "data.context=32", *SMALL)
    assert [measured(run)["data.seed"] for run in runs] == [5, 6]
    assert [measured(run)["data.context"] for run in runs] == [32, 32]


def test_runs_of_different_sources_have_no_setting_in_common(world, sae, tmp_path):
    one = installed(world, tmp_path / "one")
    other = tmp_path / "other"
    train.run(world.train(tmp_path, data=SyntheticData(d=16), tokens=512), other)
    ended = sae("eval", "-m", f"run={one},{other}", "data.seed=1", code=2)
    assert "the runs were trained on different sources, text" in ended.err and "synthetic" in ended.err


LEAKS = {
    "the same folder": ["data.path={text}"],
    "another spelling": ["data.path={text}/../text/"],
    "a copy of the folder": ["data.path={copy}"],
    "one of its files": ["data.path={text}/1.txt"],
    "a pattern": ["data.path={text}/*.txt"],
    "the setting alone": [],
}


@pytest.mark.parametrize("where", LEAKS)
def test_a_larger_held_out_fraction_of_the_same_text_is_refused(where, world, sae, tmp_path):
    run = trained(world, tmp_path)
    shutil.copytree(world.text, tmp_path / "copy")
    given = [each.format(text=world.text, copy=tmp_path / "copy") for each in LEAKS[where]]
    ended = sae("eval", run, *(["data=text", *given] if given else []), "data.held_out_fraction=.9", *SMALL, code=2)
    assert "data.held_out_fraction=0.9 on text that it was trained on with 0.2" in ended.err
    assert not (run / "eval").exists()
    sae("features", run, *(["data=text", *given] if given else []), "data.held_out_fraction=.9", *SMALL, code=2)


def trained(world, tmp_path, **changes):
    run = tmp_path / "trained"
    train.run(world.train(tmp_path, tokens=512, dict_size=8, **changes), run)
    return run


def test_text_under_other_keys_is_refused(world, sae, tmp_path):
    """The folder above: names, so keys, so sides of the split, are others; of three measured documents two had been
    trained on."""
    run = trained(world, tmp_path)
    above = tmp_path / "above"
    shutil.copytree(world.text, above / "text")
    ended = sae("eval", run, "data=text", f"data.path={above}", *SMALL, code=2)
    assert "its documents have other keys there" in ended.err and "text/" in ended.err
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    for number, file in enumerate(sorted(world.text.iterdir())):
        shutil.copy(file, renamed / f"new-{number}.txt")
    sae("eval", run, "data=text", f"data.path={renamed}", *SMALL, code=2)


def test_what_is_held_out_was_not_trained_on(world, sae, tmp_path):
    """The issue's own count, by the documents themselves."""
    run = trained(world, tmp_path, data=TextData(path=str(world.text), context=24, held_out_fraction=0.1))
    sae("eval", run, "data=text", f"data.path={world.text}", *SMALL)
    data = present(the(EvalConfig, read_config(next((run / "eval").iterdir()), "eval")).data)
    of = lambda config, split: {each.key for each in corpus(config).documents(split, 0)}  # noqa: E731
    held_out = of(data, Split.held_out)
    assert held_out and not held_out & of(the(TrainConfig, read_config(run, "train")).data, Split.train)


def test_a_smaller_fraction_and_other_text_are_measured(world, sae, tmp_path):
    run = trained(world, tmp_path)
    ended = sae("eval", run, "data.held_out_fraction=.1", *SMALL)
    assert "data.held_out_fraction 0.2 -> 0.1" in ended.err
    other = tmp_path / "other"
    other.mkdir()
    for number in range(30):
        (other / f"{number}.txt").write_text("kere losi " * (60 + number))
    sae("eval", run, "data=text", f"data.path={other}", "data.held_out_fraction=.5", *SMALL)


def test_a_model_and_a_known_truth_are_not_measured_on_each_other(world, sae, tmp_path):
    run = trained(world, tmp_path)
    ended = sae("eval", run, "data=synthetic", "data.d=16", *SMALL, code=2)
    assert "a dictionary of a language model cannot be measured on other activations" in ended.err
    train.run(world.train(tmp_path, data=SyntheticData(d=16, n_features=20, noise=0.1), tokens=512), tmp_path / "truth")
    sae("eval", tmp_path / "truth", "data=stdlib", *SMALL, code=2)
    sae("eval", tmp_path / "truth", "data.seed=1", *SMALL)
    found = measured(tmp_path / "truth")
    assert (found["data.d"], found["data.n_features"], found["data.noise"], found["data.seed"]) == (16, 20, 0.1, 1)


def test_several_at_once_take_over_too(world, sae, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for run, layer in ((one, 0), (two, 1)):
        train.run(world.train(tmp_path, tokens=512, dict_size=8, layer=layer), run)
    ended = sae("eval", f"run=[{one},{two}]", "data.held_out_fraction=.9", "eval.tokens=100", "device=cpu", code=2)
    assert "on text that it was trained on with 0.2" in ended.err
    sae("eval", f"run=[{one},{two}]", "data.context=16", "eval.tokens=100", "device=cpu", "model_rows=4", "--json")
