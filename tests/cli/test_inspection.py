"""`sae list`, `sae verify` and `sae resume`: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sae_cli.artifacts.run_directory import open_run
from sae_cli.cli.main import run as run_sae
from sae_cli.config.compose import Composer, typed
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.errors import Interrupted

HARM = "sae: error: 1 of 2 runs damaged: runs/a (config.yaml truncated)\n"


def write(directory: str, finish: bool = True) -> None:
    config = typed(Composer(None).compose("train", []).settings)
    with open_run(Path(directory), "train", result_settings(config)) as run:
        run.write_text(CONFIG_FILE, as_yaml(config))
        run.save_progress()
        if finish:
            run.finish()


@pytest.fixture
def runs(folder):
    """A finished and an unfinished run."""
    write("runs/a")
    write("runs/b", finish=False)


def test_list_prints_run_directories_and_shows_a_table(sae, runs):
    ended = sae("list")
    assert (ended.code, ended.out) == (0, "runs/a\nruns/b\n")
    assert "complete" in ended.err and "stopped" in ended.err


def test_verify_prints_the_runs_that_are_whole(sae, runs):
    assert (sae("verify").code, sae("verify").out) == (0, "runs/a\nruns/b\n")
    Path("runs/a", CONFIG_FILE).write_text("x")
    ended = sae("verify", "--quiet")
    assert (ended.code, ended.out, ended.err) == (1, "runs/b\n", HARM)


def test_what_list_prints_verify_takes(sae, runs):
    assert sae("verify", *sae("list").out.split()).out == sae("list").out


def test_resume_lists_what_can_be_gone_on_with(sae, runs):
    ended = sae("resume")
    assert (ended.code, ended.out) == (0, "runs/b\n")
    assert "no checkpoint yet" in ended.err


@pytest.mark.parametrize("command", ["list", "verify", "resume"])
def test_json_is_one_document(command, sae, runs):
    ended = sae(command, "--json", "--quiet")
    assert ended.err == "" and "NaN" not in ended.out
    assert json.loads(ended.out)["runs"][-1]["run"] == "runs/b"


def test_json_of_damage_is_printed_before_the_exit_code(sae, runs):
    Path("runs/a", CONFIG_FILE).write_text("x")
    ended = sae("verify", "--json", "--quiet")
    assert (ended.code, ended.err) == (1, HARM)
    assert [each["sound"] for each in json.loads(ended.out)["runs"]] == [False, True]


@pytest.mark.parametrize("command", ["list", "verify", "resume"])
def test_the_folder_of_runs_comes_from_the_environment_or_the_request(command, sae, runs, monkeypatch):
    Path("runs").rename("elsewhere")
    assert sae(command, "elsewhere").out.endswith("elsewhere/b\n")
    monkeypatch.setenv("SAE_RUNS", "elsewhere")
    assert sae(command).out.endswith("elsewhere/b\n")


@pytest.mark.parametrize("command", ["list", "resume"])
def test_where_nothing_has_been_run_there_is_nothing_to_list(command, sae):
    ended = sae(command)
    assert (ended.code, ended.out) == (0, "")
    assert "runs in runs" in ended.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["list", "nowhere"], "nowhere: no such folder; give a run directory, or a folder of runs (SAE_RUNS or runs)"),
        (["verify"], "runs: no run here (no manifest.json); give a run directory, or a folder of runs"),
        (["verify", "nowhere"], "nowhere: no run here (no manifest.json); give a run directory, or a folder of runs"),
        (["resume", "nowhere"], "nowhere: no such folder; give a run directory, or a folder of runs"),
        (["list", "--jsn"], "No such option: --jsn"),
    ],
)
def test_wrong_requests(arguments, says, sae):
    ended = sae(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"sae: error: {says}") and ended.err.count("\n") == 1


def test_control_characters_in_manifests_do_not_reach_the_terminal(sae, folder):
    with pytest.raises(ValueError), open_run(Path("runs/a"), "train", {}):
        raise ValueError("\x1b[2J no luck")
    for command in ("list", "verify", "resume"):
        ended = sae(command)
        assert "\x1b" not in ended.err and "\\x1b[2J no luck" in ended.err


class TestGoingOn:
    """`sae resume RUN`, with a stage that does no work."""

    @pytest.fixture(autouse=True)
    def _the_directory_is_there(self, stage, monkeypatch):
        """The stage that stands in makes its directory, which must be new."""
        run = stage.run

        def over(config, directory):
            result = run(config, directory / "result")
            (directory / "result").rmdir()
            result.directory = directory
            stage.calls[-1] = (config, directory)
            return result

        monkeypatch.setattr(sys.modules["sae_cli.commands.train"], "run", over)

    def test_one_run_prints_what_its_command_prints(self, sae, runs, stage):
        ended = sae("resume", "runs/b")
        assert (ended.code, ended.out) == (0, "runs/b\n")
        assert "what was done" in ended.err
        assert [str(directory) for _, directory in stage.calls] == ["runs/b"]
        assert json.loads(sae("resume", "runs/b", "--json").out) == {
            "run": "runs/b",
            "figures": {"l0": 12.5},
            "nan": None,
        }

    def test_several_runs_are_gone_on_with_in_turn_though_one_fails(self, sae, runs, stage):
        stage.failing = lambda config: len(stage.calls) == 1
        ended = sae("resume", "runs/a", "runs/b")
        assert (ended.code, ended.out) == (1, "runs/b\n")
        assert "run 2 of 2: runs/b" in ended.err
        assert ended.err.endswith("sae: error: 1 of 2 runs failed: runs/a\n") and "error: it broke" in ended.err
        assert [each["run"] for each in json.loads(sae("resume", "runs/a", "runs/b", "--json").out)] == [
            "runs/a",
            "runs/b",
        ]

    def test_an_interruption_ends_all(self, sae, runs, stage):
        stage.failing, stage.error = lambda config: True, lambda: Interrupted("interrupted by SIGINT", 2)
        ended = sae("resume", "runs/a", "runs/b")
        assert (ended.code, ended.out, len(stage.calls)) == (130, "", 1)

    def test_runs_and_folders_are_not_mixed(self, sae, runs, stage):
        ended = sae("resume", "runs/b", "runs")
        assert (ended.code, stage.calls) == (2, [])
        says = "runs: no run here, but runs/b is one; give runs to resume, or folders to look for them in"
        assert ended.err == f"sae: error: {says}\n"


def test_help_says_what_they_are_for(capsys):
    for command in ("list", "verify", "resume"):
        assert run_sae([command, "--help"]) == 0
    assert "sae resume | xargs sae resume" in " ".join(capsys.readouterr().out.split())
