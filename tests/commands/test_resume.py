"""A training that was stopped and is started again leaves what one leaves that was not: byte for byte.

(Stopped here by a signal between two steps; tests/crash kills processes.)
"""

import json
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch

from sae_cli.activations.blocks import take
from sae_cli.activations.columns import Columns
from sae_cli.activations.source import ActivationSources
from sae_cli.activations.synthetic import SyntheticActivations
from sae_cli.artifacts.manifest import read_manifest, write_manifest
from sae_cli.artifacts.run_directory import unfinished_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.artifacts.tensors import read_tensors, write_tensors
from sae_cli.commands import harvest, train
from sae_cli.config.checkpoint import CheckpointConfig
from sae_cli.config.data import SyntheticData
from sae_cli.config.resample import ResampleConfig, ResampleRule
from sae_cli.config.sae import BatchTopKSae, L1Units, ReluSae
from sae_cli.config.split import Split
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import BusyError, Interrupted, JobError
from sae_cli.models import LanguageModel
from sae_cli.terminal import interruption
from sae_cli.training.trainer import Trainer
from tests.known import the


@pytest.fixture
def stop_after(monkeypatch):
    """Lets a SIGTERM come within the step before the given number of steps is done, by runs of these seeds."""
    step = Trainer.step

    def set_to(steps, seed=0):
        def step_and_ask(self, *pair):
            step(self, *pair)
            if self.step_number == steps and self.recipe.seed == seed:
                interruption.ask_to_stop(signal.SIGTERM)

        monkeypatch.setattr(Trainer, "step", step_and_ask)

    yield set_to
    interruption._stop.number = None


@pytest.fixture
def config(world, tmp_path):
    config = world.train(tmp_path)
    training = replace(config.train, log_every=3, save_at=[2, 9], dead_after=300)
    return replace(config, train=training, resample=ResampleConfig(at=[5], inputs=300))


def stopped(config, directory, stop_after, *steps):
    """Stopped after each of these numbers of steps, then run to its end."""
    for number in steps:
        stop_after(number)
        with pytest.raises(Interrupted, match="interrupted by SIGTERM") as interrupted:
            train.run(config, directory)
        assert interrupted.value.exit_code == 143
        manifest = read_manifest(directory)
        assert (manifest.status, manifest.reason) == ("failed", "interrupted by SIGTERM")
        assert f"checkpoint/{number:08d}/training.safetensors" in manifest.files
    stop_after(-1)
    train.run(config, directory)


def curve(directory):
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "tokens_per_second"} for line in lines]


def check_same(one, other):
    """But for times, and for what shows where a run lies and how often it is saved."""
    a, b = read_run(one).manifest, read_run(other).manifest
    assert a.files.keys() == b.files.keys()
    for name in a.files.keys() - {"config.yaml", "metrics.jsonl"}:
        assert a.files[name] == b.files[name], name
    assert curve(one) == curve(other)
    assert {**a.facts, "seconds": 0} == {**b.facts, "seconds": 0}
    assert (a.settings, a.parents, a.status, a.reason) == (b.settings, b.parents, b.status, b.reason)
    on_disk = {path.relative_to(other).as_posix() for path in other.rglob("*") if path.is_file()}
    assert on_disk == {"manifest.json", *b.files}


@pytest.mark.parametrize("steps", [(1,), (4, 7, 8), (11, 12, 15)])
def test_on_a_live_model(world, tmp_path, config, stop_after, steps):
    """Before and after a resampling; where activations stop coming in (12 of 16), and while the buffer empties."""
    train.run(config, tmp_path / "whole")
    stopped(config, tmp_path / "stopped", stop_after, *steps)
    check_same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("rule", [ResampleRule.local, ResampleRule.marks2023])
def test_with_features_that_warm_up_one_by_one_and_windows_that_are_watched(
    world, tmp_path, config, stop_after, rule, capsys
):
    """Resamplings after 4, 5, 8 and 12 of 16 steps, and a unit of l1 that the first sample has set."""
    l1 = 3.0
    resample = ResampleConfig(rule=rule, at=[5], every=4, inputs=300, rewarm_steps=6)
    sae = ReluSae(l1_units=L1Units.raw_mean, sparsity_warmup=0.0)
    config = replace(config, resample=resample, sae=sae, l1=l1, train=replace(config.train, dead_after=200, lr=0.05))
    train.run(config, tmp_path / "whole")
    stopped(config, tmp_path / "stopped", stop_after, 4, 6, 9, 12)
    check_same(tmp_path / "whole", tmp_path / "stopped")
    facts = read_run(tmp_path / "whole").manifest.facts
    assert [each["step"] for each in facts["resamplings"]] == [4, 5, 8, 12] and facts["resampled"] > 0
    record = read_tensors(tmp_path / "whole" / "resampling.safetensors")
    assert record["died"].tolist() == [each["died"] for each in facts["resamplings"]]
    assert record["l0"].tolist() == [[each["l0_before"], each["l0_after"]] for each in facts["resamplings"]]
    assert record["alive"].sum(dim=1).tolist() == [each["alive"] for each in facts["resamplings"]]
    assert facts["l1_in_training"] == pytest.approx(l1 * facts["scale"] * facts["width"])
    said = capsys.readouterr().err
    assert f"l1={l1:g} by sae.l1_units=raw_mean is " in said
    assert "dead features; L0 of " in said and "features that were alive at the resampling after step 4, " in said


def test_on_a_harvest_which_it_keeps_to(world, tmp_path, config, stop_after):
    harvest.run(world.harvest(tmp_path), tmp_path / "harvest" / "first")
    train.run(config, tmp_path / "whole")
    assert read_run(tmp_path / "whole").manifest.facts["source"] == "harvest"
    stop_after(6)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "stopped")
    harvest.run(world.harvest(tmp_path), tmp_path / "harvest" / "before_first")
    stop_after(-1)
    train.run(config, tmp_path / "stopped")
    check_same(tmp_path / "whole", tmp_path / "stopped")


def test_what_was_begun_live_goes_on_live(world, tmp_path, config, stop_after):
    train.run(config, tmp_path / "whole")
    stop_after(6)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "stopped")
    harvest.run(world.harvest(tmp_path), tmp_path / "harvest" / "new")
    stop_after(-1)
    train.run(config, tmp_path / "stopped")
    check_same(tmp_path / "whole", tmp_path / "stopped")


def test_without_the_harvest_that_it_was_begun_with(world, tmp_path, config, stop_after):
    harvest.run(world.harvest(tmp_path), tmp_path / "harvest")
    stop_after(6)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "stopped")
    (tmp_path / "harvest").rename(tmp_path / "moved")
    before = read_manifest(tmp_path / "stopped")
    with pytest.raises(JobError, match=r"stopped: was begun with the harvest .*harvest, which is gone; restore it, or"):
        train.run(config, tmp_path / "stopped")
    assert read_manifest(tmp_path / "stopped") == before


@pytest.mark.parametrize("steps", [(3, 13), (31,)])
def test_on_a_known_truth(world, tmp_path, stop_after, steps):
    """Over the border of two of its blocks of 4,096."""
    config = world.train(tmp_path)
    config = replace(config, data=SyntheticData(d=16, n_features=24), sae=BatchTopKSae(), k=3, tokens=6144)
    config = replace(config, train=replace(config.train, batch_size=192))
    train.run(config, tmp_path / "whole")
    stopped(config, tmp_path / "stopped", stop_after, *steps)
    check_same(tmp_path / "whole", tmp_path / "stopped")


def test_on_pairs(world, tmp_path, stop_after, monkeypatch):
    """A stream that carries 10 numbers to read and 6 to write: its dictionary maps the one to the other."""
    opened = ActivationSources.open

    def side_by_side(self, *args):
        return replace(opened(self, *args), columns=Columns.side_by_side(10))

    monkeypatch.setattr(ActivationSources, "open", side_by_side)
    config = replace(world.train(tmp_path), data=SyntheticData(d=16, n_features=24), sae=BatchTopKSae(), k=3)
    whole = train.run(replace(config, tokens=6144), tmp_path / "whole").directory
    stopped(replace(config, tokens=6144), tmp_path / "stopped", stop_after, 5)
    check_same(tmp_path / "whole", tmp_path / "stopped")
    dictionary = load_dictionary(read_run(whole))
    assert (dictionary.d_in, dictionary.d_out) == (10, 6)
    truth, run = SyntheticActivations.of(the(SyntheticData, config.data)), read_run(whole)
    blocks = take(truth.blocks(Split.held_out), run.fact("held_out_tokens", int))
    carried = torch.cat([each.activations for each in blocks])
    y = carried[:, 10:].double()
    error = (dictionary(carried[:, :10]).double() - y).square().sum()
    expected = float(error / (y - y.mean(dim=0)).square().sum())
    assert run.fact("held_out_fvu", float) == pytest.approx(expected, rel=1e-4)


def sweep(config):
    """Two that share a shuffle buffer, and one with its own."""
    other_batches = replace(config.train, batch_size=96, shuffle_buffer=256)
    return {"a": config, "b": replace(config, seed=1), "c": replace(config, train=other_batches)}


def test_side_by_side(world, tmp_path, config, stop_after):
    """Stopped while members of the sweep stand at different steps; one of them had gone on further by itself."""
    configs = sweep(replace(config, keep_checkpoints=True))
    train.run_together([(each, tmp_path / f"{name}_whole") for name, each in configs.items()])
    requests = [(each, tmp_path / name) for name, each in configs.items()]
    for steps in (4, 9):
        stop_after(steps)
        with pytest.raises(Interrupted):
            train.run_together(requests)
    shuffles = [next((tmp_path / name / "checkpoint").rglob("shuffle*")) for name in configs]
    assert shuffles[0].samefile(shuffles[1]) and not shuffles[0].samefile(shuffles[2])
    stop_after(12, seed=1)
    with pytest.raises(Interrupted):
        train.run(configs["b"], tmp_path / "b")
    stop_after(-1)
    train.run_together(requests)
    for name in configs:
        whole, again = (read_run(tmp_path / each).manifest for each in (f"{name}_whole", name))
        assert whole.files["sae.safetensors"] == again.files["sae.safetensors"], name
        assert curve(tmp_path / f"{name}_whole") == curve(tmp_path / name)


def test_the_model_is_run_no_more_than_it_must_be(world, tmp_path, config, stop_after, monkeypatch):
    """Passes whose activations have been used up are not made again."""
    passes = []
    capture = LanguageModel.capture
    train.run(config, tmp_path / "whole")
    stop_after(10)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "stopped")
    monkeypatch.setattr(LanguageModel, "capture", lambda *args: passes.append(1) or capture(*args))
    stop_after(-1)
    train.run(config, tmp_path / "stopped")
    held_out, left = 3, 3  # of the 17 passes of 124 activations, 14 had come in
    assert len(passes) <= held_out + left


def test_checkpoints_replace_each_other_and_go_at_the_end(world, tmp_path, config, monkeypatch):
    seen, step = [], Trainer.step

    def look(self, *pair):
        seen.append(sorted(path.name for path in (tmp_path / "run" / "checkpoint").glob("*")))
        step(self, *pair)

    monkeypatch.setattr(Trainer, "step", look)
    often = replace(config, checkpoint=CheckpointConfig(every_seconds=0))
    train.run(often, tmp_path / "run")
    assert seen == [[], *([f"{step:08d}"] for step in range(1, 16))]
    assert not (tmp_path / "run" / "checkpoint").exists()
    train.run(replace(often, keep_checkpoints=True), tmp_path / "kept")
    kept = read_run(tmp_path / "kept")
    kept.check_files(verify=True)
    assert [name for name in kept.manifest.files if "checkpoint" in name] == [
        "checkpoint/00000016/shuffle.safetensors",
        "checkpoint/00000016/training.safetensors",
    ]


def test_a_damaged_checkpoint_is_not_believed(world, tmp_path, config, stop_after):
    stop_after(6)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "run")
    for name in ("training", "shuffle"):
        path = tmp_path / "run" / "checkpoint" / "00000006" / f"{name}.safetensors"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(JobError, match=rf"{name}\.safetensors: damaged file: .*\(overwrite=true\)"):
            train.run(config, tmp_path / "run")
        path.write_bytes(whole)
    stop_after(-1)
    train.run(config, tmp_path / "run")


def test_a_checkpoint_that_another_process_has_gone_on_from_meanwhile_is_not_damaged(
    tmp_path, config, stop_after, monkeypatch
):
    stop_after(6)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "run")
    stop_after(-1)

    def looked_at_late(directory, overwrite):
        monkeypatch.undo()
        attempt = unfinished_run(directory, overwrite)
        train.run(config, directory)
        return attempt

    monkeypatch.setattr("sae_cli.jobs.once.unfinished_run", looked_at_late)
    with pytest.raises(BusyError, match="another process has just worked on this run; run the command again"):
        train.run(config, tmp_path / "run")
    assert read_manifest(tmp_path / "run").status == "complete"


def test_the_checkpoint_before_stays_when_the_next_cannot_be_written(world, tmp_path, config, monkeypatch):
    write, fail_at = train.Run.write_tensors, "00000007/training"

    def fail(self, name, *rest):
        if fail_at in name:
            raise JobError("no space")
        write(self, name, *rest)

    monkeypatch.setattr(train.Run, "write_tensors", fail)
    often = replace(config, checkpoint=CheckpointConfig(every_seconds=0))
    with pytest.raises(JobError, match="no space"):
        train.run(often, tmp_path / "run")
    assert read_manifest(tmp_path / "run").reason == "no space"
    monkeypatch.setattr(train.Run, "write_tensors", write)
    began, restore = [], Trainer.restore
    monkeypatch.setattr(Trainer, "restore", lambda self, state: began.append(state) or restore(self, state))
    train.run(config, tmp_path / "run")
    assert [int(state["step_number"]) for state in began] == [6]
    train.run(config, tmp_path / "whole")
    check_same(tmp_path / "whole", tmp_path / "run")


def _leave_out(state):
    state.pop("trainer.adam.mean.b_enc")


def _add(state):
    state["trainer.adam.third"] = torch.zeros(1)


def _spread(state):
    state["trainer.adam.mean.b_enc"] = torch.zeros(1)


def _shorten(state):
    state["trainer.density.tokens"] = state["trainer.density.tokens"][1:]


def _round(state):
    state["trainer.scale"] = state["trainer.scale"].float()


def _go_back(state):
    state["trainer.step_number"] -= 1


def _move(state, steps):
    for name in ("trainer.step_number", "batches.drawn"):
        state[name] += steps


def _owe(state):
    state["batches.pending"] = torch.zeros(1, 64, 3)
    state["batches.drawn"] += 1


def _narrow(state):
    state["window"] = state["window"][:, 1:].contiguous()


def _cut_off(state):
    state["window"] = state["window"][:-1]


def _garble(state):
    state["random"] = torch.tensor([1, 2], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("training", _leave_out, r"ValueError: no adam\.mean\.b_enc"),
        ("training", _add, r"ValueError: an unknown adam\.third"),
        ("training", _spread, r"ValueError: adam\.mean\.b_enc as torch\.float32 \[1\]"),
        ("training", _shorten, "ValueError: "),
        ("training", _round, r"ValueError: scale as torch\.float32 \[\]"),
        ("training", _go_back, "ValueError: step 5 after 6 batches"),
        ("training", partial(_move, steps=2**40), r"[\d,]+ batches drawn of 16"),
        ("training", partial(_move, steps=-(2**40)), r"-[\d,]+ batches drawn"),
        ("training", _owe, r"ValueError: activations of width"),
        ("shuffle", _narrow, "ValueError: "),
        ("shuffle", _cut_off, r"a window of torch\.float32"),
        ("shuffle", _garble, "JSONDecodeError: "),
    ],
)
def test_a_checkpoint_of_another_training_is_one_line(tmp_path, config, stop_after, name, change, says):
    """Whole files, but not of this training: another version's, or a stranger's."""
    stop_after(6)
    with pytest.raises(Interrupted):
        train.run(config, tmp_path / "run")
    stop_after(-1)
    manifest, file = read_manifest(tmp_path / "run"), f"checkpoint/00000006/{name}.safetensors"
    state = read_tensors(tmp_path / "run" / file)
    change(state)
    manifest.files[file] = write_tensors(tmp_path / "run" / file, state)
    write_manifest(tmp_path / "run", manifest)
    with pytest.raises(
        JobError, match=rf"(training|shuffle)\.safetensors: damaged file: .*this training, found .*{says}"
    ):
        train.run(config, tmp_path / "run")
