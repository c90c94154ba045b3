"""References by name, without torch."""

import pytest

from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.compose import Composer, typed
from sae_cli.config.model import ModelConfig
from sae_cli.config.names import measurement_name
from sae_cli.config.references import reference, training_step
from sae_cli.config.settings import flatten, result_settings
from sae_cli.errors import RequestError
from tests.known import the

COMPOSER = Composer()


@pytest.mark.parametrize(
    ("text", "path", "revision"),
    [
        ("demo-s", "embedded:demo-s", None),
        ("pythia14m", "EleutherAI/pythia-14m", None),
        ("pythia70m@step1000", "EleutherAI/pythia-70m-deduped", "step1000"),
        ("owner/model@main", "owner/model", "main"),
        ("./folder", "./folder", None),
        ("embedded:demo", "embedded:demo", None),
    ],
)
def test_names(text, path, revision):
    found = reference(text)
    assert (found.name, found.model.path, found.model.revision) == (text, path, revision)


def test_a_folder_keeps_the_at_sign_of_its_name(tmp_path):
    (tmp_path / "a@b").mkdir()
    assert reference(f"{tmp_path}/a@b").model.path == f"{tmp_path}/a@b"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dem-s", "references=dem-s: no model option dem-s: did you mean demo-s"),
        (
            "zzz",
            "no model option zzz; there is demo, demo-s, demo-xs, demo-xxs, demo-xxs-1, demo-xxs-2, gemma3-270m, gpt2",
        ),
        ("hf", "no model option hf"),
        ("pythia70m@", "expected a revision after the @"),
    ],
)
def test_what_names_no_reference(text, said):
    with pytest.raises(RequestError, match=said):
        reference(text)
    with pytest.raises(RequestError, match=said):
        typed(COMPOSER.compose("eval", ["run=x", f"references=[demo,'{text}']"]).settings)


def test_a_folder_has_no_revisions(tmp_path):
    with pytest.raises(RequestError, match="has no revisions; leave @step3 out"):
        reference(f"{tmp_path}@step3")


@pytest.mark.parametrize(
    ("path", "revision", "step"),
    [
        ("owner/model", "step512", 512),
        ("owner/model", None, None),
        ("/checkpoints/step64/", None, 64),
        ("EleutherAI/pythia-70m-deduped", None, 143_000),
        ("EleutherAI/pythia-70m-deduped", "step0", 0),
        ("embedded:demo-xxs", None, 2441),
        ("embedded:demo-xxs", "step64", 64),
        ("embedded:demo-xs", None, None),
    ],
)
def test_steps_of_training(path, revision, step):
    assert training_step(ModelConfig(path=path, revision=revision)) == step


def evaluation(*overrides):
    config = typed(COMPOSER.compose("eval", ["run=runs/a", *overrides]).settings)
    return measurement_name(config, COMPOSER.baseline("eval", [])), result_settings(config)["references"]


def test_references_are_part_of_an_evaluations_name_whatever_they_are_called():
    assert evaluation()[0] == "default"
    one = evaluation("references=[demo-s,demo-xs]")
    assert one == evaluation("references=[embedded:demo-xs,demo-s]")
    assert one[1] == ["embedded:demo-s", "embedded:demo-xs"]
    assert one[0] != evaluation("references=[demo-s]")[0] != "default"


def test_one_run_or_several():
    def run(text):
        return the(EvalConfig, typed(COMPOSER.compose("eval", [f"run={text}"]).settings)).run

    assert run("a/b") == run("[a/b]") == "a/b"
    assert run("[a,b]") == ["a", "b"]
    assert flatten(typed(COMPOSER.compose("eval", ["run=[b,a]"]).settings))["run"] == ["b", "a"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("run=[]", "expected a run directory or a list of them"),
        ("run=null", "expected a run directory or a list of them"),
        ("run=[a,[b]]", "expected a run directory or a list of them"),
        ("run=[a,b,a]", "has a twice: give each dictionary once"),
        ("run=[a,b] features.tokens=3", "features and baselines are measured for each dictionary by itself"),
        ("run=[a,b] baselines=[pca]", "features and baselines are measured for each dictionary by itself"),
    ],
)
def test_runs_that_make_no_sense(overrides, said):
    with pytest.raises(RequestError, match=said):
        typed(COMPOSER.compose("eval", overrides.split()).settings)
