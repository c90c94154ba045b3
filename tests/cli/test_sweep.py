"""`-m`: every job its own run, the others go on when one fails, nothing of the bookkeeping is left."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest

from sae_cli.artifacts.lock import LOCK, RunLock
from sae_cli.cli.job import SweepJob
from sae_cli.cli.plan import make_plan
from sae_cli.cli.request import Request
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.data import SyntheticData
from sae_cli.errors import Interrupted
from tests.known import the

RUNS = [f"runs/train/demo/mlp_out.2/relu-F2048-l1_{l1}-seed0" for l1 in ("0.3", "1", "3")]


def test_each_job_is_a_run(sae, stage, folder):
    ended = sae("train", "-m", "l1=0.3,1")
    assert (ended.code, ended.out.splitlines()) == (0, RUNS[:2])
    assert "l0" in ended.err
    assert "12.5" in ended.err
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["train"]


def test_what_a_killed_sweep_has_left_is_removed_by_the_next(sae, stage, folder):
    sweeps = folder / "runs" / ".sweeps"
    killed, living = sweeps / "1" / "outcomes-a", sweeps / "2" / "outcomes-b"
    for outcomes in (killed, living):
        outcomes.mkdir(parents=True)
        (outcomes / "0.json").write_text("{}")
        (outcomes.parent / "multirun.yaml").write_text("")
    (killed / LOCK).write_text("")
    lock = RunLock(living)
    assert sae("train", "-m", "l1=0.3,1").code == 0
    assert [path.name for path in sweeps.iterdir()] == ["2"]
    assert (living / "0.json").exists()
    lock.release()


def test_the_others_go_on_when_one_fails(sae, stage, folder):
    stage.failing = lambda config: config.l1 == 1
    ended = sae("train", "-m", "l1=0.3,1,3")
    assert (ended.code, ended.out.splitlines()) == (1, [RUNS[0], RUNS[2]])
    assert ended.err.splitlines()[-1] == "sae: error: 1 of 3 jobs failed: l1=1 (it broke)"
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["train"]


def test_json_is_one_list(sae, stage):
    ended = sae("train", "-m", "l1=0.3,1", "--json")
    assert [each["run"] for each in json.loads(ended.out)] == RUNS[:2]


def test_a_bug_in_one_job_is_shown_after_the_table(sae, stage, capsys):
    stage.failing = lambda config: config.l1 == 1
    stage.error = lambda: ZeroDivisionError("oops")
    with pytest.raises(ZeroDivisionError):
        sae("train", "-m", "l1=1,3")
    captured = capsys.readouterr()
    assert captured.out.splitlines() == RUNS[2:]
    assert "unexpected error" in captured.err


def test_a_signal_stops_the_sweep(sae, stage, capsys):
    stage.failing = lambda config: config.l1 == 1
    stage.error = lambda: Interrupted("interrupted by SIGTERM", 15)
    with pytest.raises(SystemExit, match="143"):
        sae("train", "-m", "l1=1,3")
    assert len(stage.calls) == 1
    assert capsys.readouterr().out == ""


def test_an_outcome_that_cannot_be_written(sae, stage, monkeypatch):
    """The run is there, the sweep has failed, and each job whose outcome is missing has a line."""
    monkeypatch.setattr(Path, "replace", fail_with(OSError(5, "Input/output error")))
    ended = sae("train", "-m", "l1=1,3", "--quiet")
    assert (ended.code, len(stage.calls)) == (1, 2)
    assert ended.err.count("Input/output error") == 2
    assert all(line.startswith("sae: error: ") for line in ended.err.splitlines())


def fail_with(error):
    def fail(*_, **__):
        raise error

    return fail


def _after_a_signal():
    """What is raised where a library fails while it tidies up after a signal."""
    try:
        try:
            raise Interrupted("interrupted by SIGTERM", 15)
        finally:
            raise AttributeError("half of it is there")
    except AttributeError as error:
        return error


def test_an_error_in_the_wake_of_a_signal_is_the_signal(sae, stage, capsys):
    stage.failing, stage.error = lambda config: True, _after_a_signal
    with pytest.raises(SystemExit, match="143"):
        sae("train", "-m", "l1=1,3")
    assert "sae: error: interrupted by SIGTERM" in capsys.readouterr().err.splitlines()
    ended = sae("train")
    assert (ended.code, ended.err.splitlines()[-1]) == (143, "sae: error: interrupted by SIGTERM")


def test_the_shared_launcher_gives_all_jobs_to_the_stage_at_once(sae, stage):
    stage.failing = lambda config: config.l1 == 1
    ended = sae("train", "-m", "l1=0.3,1,3", "hydra/launcher=shared")
    assert stage.together == [3]
    assert (ended.code, ended.out.splitlines()) == (1, [RUNS[0], RUNS[2]])
    assert ended.err.splitlines()[-1] == "sae: error: 1 of 3 jobs failed: l1=1 (it broke)"


def test_commands_whose_jobs_share_nothing_say_so(sae, stage):
    ended = sae("eval", "-m", "run=runs/a,runs/b", "hydra/launcher=shared")
    assert (ended.code, ended.out.splitlines()) == (0, ["runs/a", "runs/b"])
    assert "one after another" in ended.err


@pytest.mark.parametrize("command", ["harvest", "train"])
def test_a_list_of_layers_is_one_run_each(sae, stage, command):
    ended = sae(command, "layer=[0, 2]", "tokens=5_000")
    assert ended.code == 0
    assert stage.together == [2]
    assert [Path(line).parts[3] for line in ended.out.splitlines()] == ["mlp_out.0", "mlp_out.2"]


def test_a_list_of_layers_takes_another_launcher(sae, stage):
    ended = sae("harvest", "layer=[0,2]", "hydra/launcher=basic")
    assert (len(ended.out.splitlines()), stage.together) == (2, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("l1=1,1.0", f"two jobs of this sweep would both write {RUNS[1]}: (l1=1) and (l1=1.0)"),
        ("l1=1,3 name=q", "two jobs of this sweep would both write runs/q"),
        ("l1=1,abc", "l1=abc: Value 'abc'"),
        ("model=demo,gtp2", "no option gtp2 for model: did you mean gpt2?"),
        ("lyer=1,2", "unknown key lyer: did you mean layer?"),
        ("l1=1,2 l1=3", "l1 is given twice: l1=1,2 and l1=3"),
    ],
)
def test_a_bad_sweep_is_refused_as_a_whole(arguments, message, sae, stage, folder):
    ended = sae("train", "-m", *arguments.split())
    assert ended.code == 2
    assert message in ended.err
    assert stage.calls == []
    assert list(folder.iterdir()) == []


def test_evaluations_of_one_run_with_different_settings(sae, stage, folder):
    (folder / "runs").mkdir()
    stage.failing = lambda config: False
    ended = sae("eval", "-m", "run=runs/a,runs/b", "--quiet")
    assert ended.out.splitlines() == ["runs/a", "runs/b"]


def test_values_of_a_sweep_can_come_from_a_file(sae, stage, folder):
    (folder / "mine" / "sweeps").mkdir(parents=True)
    (folder / "mine" / "sweeps" / "l1s.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {l1: '0.3,3'}}}\n"
    )
    ended = sae("train", "-m", "--config-dir", "mine", "+sweeps=l1s", "--quiet")
    assert [Path(line).name for line in ended.out.splitlines()] == [Path(RUNS[0]).name, Path(RUNS[2]).name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def planned(folder, *overrides, multirun=False):
    request = Request(command="train", overrides=overrides, multirun=multirun, config_dir=folder / "mine")
    return [the(TrainConfig, each.config) for each in make_plan(request).jobs]


def test_amounts_in_a_file_are_numbers(folder):
    content = "tokens: 1e4\ndict_size: 2k\ntrain: {dead_after: 1_000, save_at: [1e1, 20, .03k], lr: 1e-3}\nl1: 1e0\n"
    write(folder / "mine" / "sizes" / "small.yaml", f"# @package _global_\n{content}")
    (config,) = planned(folder, "+sizes=small")
    assert (config.tokens, config.dict_size, config.train.dead_after) == (10_000, 2000, 1000)
    assert (config.train.save_at, config.train.lr, config.l1) == ([10, 20, 30], 0.001, 1)
    assert isinstance(config.tokens, int) and isinstance(config.l1, float)
    (plain,) = planned(folder, "+sizes=small", "tokens=10000", "dict_size=3000")
    assert (plain.tokens, plain.dict_size) == (10_000, 3000)


def test_amounts_in_an_option_of_a_group_are_numbers(folder):
    write(
        folder / "mine" / "data" / "mine.yaml",
        "defaults: [base_synthetic, _self_]\nn_features: 2e2\nd: .05k\nseed: 3\n",
    )
    write(folder / "mine" / "train" / "fast.yaml", "# @package train\nbatch_size: 1e2\n")
    (config,) = planned(folder, "data=mine", "+train=fast")
    data = the(SyntheticData, config.data)
    assert (data.n_features, data.d, data.seed, config.train.batch_size) == (200, 50, 3, 100)


def test_amounts_among_the_values_of_a_sweep_are_numbers(sae, stage, folder):
    params = "dict_size: '1k,2e3', tokens: 1e4, train.batch_size: 'choice(1e2,.2k)'"
    content = f"# @package _global_\nhydra: {{sweeper: {{params: {{{params}}}}}}}\n"
    write(folder / "mine" / "sweeps" / "sizes.yaml", content)
    assert sae("train", "-m", "--config-dir", "mine", "+sweeps=sizes", "--quiet").code == 0
    found = [(each.dict_size, each.tokens, each.train.batch_size) for each, *_ in stage.calls]
    assert found == [(size, 10_000, batch) for size in (1000, 2000) for batch in (100, 200)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tokens: 1.5", "small.yaml: tokens=1.5: expected a whole number, as in 100000, 1e5, 100k or 2M"),
        ("train: {batch_size: .1e-3}", "small.yaml: train.batch_size=0.0001: expected a whole number"),
        (
            "hydra: {sweeper: {params: {tokens: '1e4,1e-4'}}}",
            "small.yaml: hydra.sweeper.params.tokens=1e4,1e-4: expected",
        ),
        ("tokens: 100kk", "sizes/small.yaml: tokens: Value '100kk' of type 'str' could not be converted to Integer"),
        ("tokns: 1", "sizes/small.yaml: tokns: Key 'tokns' not in 'TrainConfig'"),
    ],
)
def test_what_is_no_amount_in_a_file_is_one_line(line, message, sae, stage, folder):
    write(folder / "mine" / "sizes" / "small.yaml", f"# @package _global_\n{line}\n")
    ended = sae("train", "-m", "--config-dir", "mine", "+sizes=small")
    assert (ended.code, stage.calls, ended.err.count("\n")) == (2, [], 1)
    assert message in ended.err


def test_requirements_hold_for_every_job(sae, stage):
    stage.document = {"eval": {"loss_recovered": 0.5}}
    ended = sae("eval", "-m", "run=runs/a,runs/b", "--require", "loss_recovered>=0.9")
    assert (ended.code, len(ended.out.splitlines())) == (3, 2)
    assert "2 of 2 jobs failed: run=runs/a (required loss_recovered>=0.9, found 0.5)" in ended.err


def test_the_task_can_be_sent_to_another_process(tmp_path):
    request = Request(command="train", overrides=[])
    plan = make_plan(request)
    task = SweepJob(plan.jobs, plan.numbers, tmp_path, quiet=True, parent=os.getpid())
    assert pickle.loads(pickle.dumps(task)) == task


MIXED = {
    "hook=mlp_out,logits layer=1": (
        ["hook=mlp_out layer=1", "hook=logits"],
        "layer=1 is left out where it has no effect",
    ),
    "sae=relu,topk l1=2 k=8": (
        ["sae=relu l1=2", "sae=topk k=8"],
        "k=8 is left out where it has no effect, with sae=relu",
    ),
    "sae=topk sae.aux_coefficient=0,0.1 sae.aux_k=5": (
        ["sae=topk sae.aux_coefficient=0", "sae=topk sae.aux_coefficient=0.1 sae.aux_k=5"],
        "sae.aux_k=5 is left out where it has no effect, with sae.aux_coefficient=0 (1 of 2 jobs)",
    ),
    "sae=relu,topk k=4,8": (
        ["sae=relu", "sae=topk k=4", "sae=topk k=8"],
        "k=4 is left out where it has no effect, with sae=relu (1 of 4 jobs)",
    ),
    "sae=topk,relu k=32,64": (["sae=topk k=32", "sae=topk k=64", "sae=relu k=32"], "(1 of 4 jobs)"),  # the default
    "hook=mlp_out,logits layer=1,3": (
        ["hook=mlp_out layer=1", "hook=mlp_out layer=3", "hook=logits"],
        "layer=3 is left out where it has no effect, with hook=logits",
    ),
    "sae=relu,jump_relu l1=1,2 k=4,8": (
        ["sae=relu l1=1", "sae=relu l1=2", "sae=jump_relu l1=1 k=4", "sae=jump_relu l1=1 k=8"],
        "l1=2 is left out where it has no effect, with sae=jump_relu (2 of 8 jobs)",
    ),
    "data=synthetic,stdlib layer=1,2 hook=resid": (
        ["data=synthetic", "data=stdlib layer=1 hook=resid", "data=stdlib layer=2 hook=resid"],
        "layer=1 is left out where it has no effect, with data=synthetic, which makes activations itself",
    ),
    "l1=0,2 sae.sparsity_warmup=0.5": (["l1=0", "l1=2 sae.sparsity_warmup=0.5"], "with l1=0 (1 of 2 jobs)"),
    "hook=logits,logit_update layer=3 l1=3": (["hook=logits l1=3", "hook=logit_update layer=3 l1=3"], "(1 of 2 jobs)"),
}


@pytest.mark.parametrize("arguments", MIXED)
def test_a_setting_is_applied_where_it_has_an_effect(arguments):
    expected, line = MIXED[arguments]
    plan = make_plan(Request(command="train", overrides=arguments.split(), multirun=True))
    assert [" ".join(each.overrides) for each in plan.jobs] == expected
    assert [each for each in plan.numbers if each is not None] == list(range(len(expected)))
    assert any(line in note for note in plan.notes)


@pytest.mark.parametrize("launcher", ["basic", "shared"])
def test_a_mixed_sweep_runs_each_job_once(launcher, sae, stage):
    ended = sae("train", "-m", "sae=relu,topk", "k=4,8", f"hydra/launcher={launcher}")
    kinds = ["relu-F2048-l1_1", "topk-F2048-k4", "topk-F2048-k8"]
    assert [Path(line).name for line in ended.out.splitlines()] == [f"{kind}-seed0" for kind in kinds]
    assert [(call[0].sae.architecture, call[0].k) for call in stage.calls] == [("relu", 32), ("topk", 4), ("topk", 8)]
    assert "k=4 is left out where it has no effect, with sae=relu (1 of 4 jobs)" in ended.err


@pytest.mark.parametrize("arguments", ["sae=relu,gated k=8", "hook=logits layer=1,2"])
def test_a_setting_without_effect_in_any_job_is_refused(arguments, sae, stage):
    ended = sae("train", "-m", *arguments.split())
    assert (ended.code, stage.calls) == (2, [])
    assert ended.err.count("\n") == 1


def test_a_job_that_is_another_again_is_counted_once(sae, stage):
    """In the table, in the numbers of the jobs, and where one fails."""
    stage.failing = lambda config: config.k == 8
    ended = sae("train", "-m", "sae=relu,topk", "k=4,8")
    assert (ended.code, len(stage.calls), len(ended.out.splitlines())) == (1, 3, 2)
    assert [line.partition(":")[0] for line in ended.err.splitlines() if line.startswith("job ")] == [
        "job 1 of 3", "job 2 of 3", "job 3 of 3"
    ]  # fmt: skip
    assert "1 of 3 jobs failed: sae=topk k=8 (it broke)" in ended.err


def test_what_is_asked_for_twice_is_still_refused(sae, stage):
    ended = sae("train", "-m", "sae=relu,topk", "k=4,4")
    assert (ended.code, stage.calls) == (2, [])
    assert "two jobs of this sweep would both write" in ended.err
