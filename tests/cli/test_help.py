"""What `--help` of a command lists, against the configuration that Hydra composes."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from sae_cli.cli.main import run
from sae_cli.config.commands import command_names
from sae_cli.config.compose import Composer, options
from sae_cli.config.listing import groups_of, settings_of


def help_of(capsys, command, *arguments):
    """The help, as words with one space between two."""
    assert run([command, *arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("command", command_names())
def test_groups_and_their_options_are_those_of_the_configuration(command):
    composer = Composer()
    choices = composer.compose(command).hydra.runtime.choices
    expected = {name: choices[name] for name in composer.groups() if name in choices}
    assert {group.name: group.default for group in groups_of(command)} == expected
    for group in groups_of(command):
        assert group.options == options(composer.loader.get_group_options(group.name))


@pytest.mark.parametrize("command", command_names())
def test_settings_and_their_defaults_are_those_of_the_configuration(command):
    composer, groups = Composer(), {group.name for group in groups_of(command)}
    settings, listed = composer.compose(command).settings, settings_of(command)
    nodes = {key for key in settings if key not in groups and isinstance(settings._get_node(key), DictConfig)}
    needed = set(OmegaConf.missing_keys(settings)) - groups
    assert (set(listed.nodes), set(listed.needed)) == (nodes, needed)
    assert {each.partition("=")[0] for each in listed.defaults} == set(settings) - groups - nodes - needed
    # Given once more as they are listed, they change nothing.
    assert composer.compose(command, listed.defaults).settings == settings


def test_the_runs_folder_is_the_one_in_effect(monkeypatch):
    for value, expected in (("", "runs"), ("elsewhere", "elsewhere")):
        monkeypatch.setenv("SAE_RUNS", value)
        assert f"runs_dir={expected}" in settings_of("eval").defaults


def test_help_of_train(capsys):
    said = help_of(capsys, "train", "--help")
    for words in (
        "demo, demo-s, demo-xs, demo-xxs, demo-xxs-1,",
        "attn_out, logit_update, logits, mlp_act, mlp_out, module, resid; mlp_out unless given",
        "compositional, docstrings, fineweb, gaussian, hf, installed, pile, stdlib, synthetic, synthsaebench16k,",
        "synthsaebench256, text;",
        "text; stdlib unless given",
        "batch_topk, gated, jump_relu, matryoshka, relu, topk; relu unless given",
        "layer=2 dict_size=2048 l1=1 k=32 tokens=750_000 seed=0",
        "train.KEY, resample.KEY, checkpoint.KEY",
        "Added with a + (+GROUP=OPTION)",
        "recipe (published training) anthropic2024, bussmann2024,",
    ):
        assert words in said


def test_help_of_a_command_on_a_run(capsys):
    said = help_of(capsys, "eval", "--help")
    assert "synthetic, synthsaebench16k, synthsaebench256, text; the run's own unless given" in said
    assert "to be given run" in said
    assert "Groups" not in help_of(capsys, "compare", "--help")


@pytest.mark.parametrize("order", [("--config-dir", "--help"), ("--help", "--config-dir")])
def test_options_of_ones_own_are_listed(capsys, tmp_path, order):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("path: x\n")
    arguments = [word for each in order for word in ([each, str(tmp_path)] if each == "--config-dir" else [each])]
    assert "hf, mine, pythia14m" in help_of(capsys, "train", *arguments)
