"""`sae resume`: what can be resumed, and that it ends where it would have ended."""

import os
import sys
from types import ModuleType

import pytest

from sae_cli.activations.harvested import ShardWriter
from sae_cli.artifacts.manifest import MANIFEST
from sae_cli.artifacts.run_directory import open_run
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import harvest, resume, train
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.errors import JobError, RequestError
from sae_cli.jobs.result import StageResult
from sae_cli.training.trainer import Trainer
from tests.known import document_of

SAYS_KILLED = "its process was killed, or the machine went down"


@pytest.fixture
def begun(world, tmp_path):
    """A training that was stopped before its first checkpoint."""
    config = world.train(tmp_path, overwrite=True)
    with open_run(tmp_path / "runs" / "t", "train", result_settings(config)) as run:
        run.write_text(CONFIG_FILE, as_yaml(config))
        run.save_progress()
    return tmp_path / "runs" / "t"


@pytest.fixture
def called(monkeypatch):
    """What the stage of `sae train`, which does nothing here, is called with."""
    calls = []
    stage = ModuleType("sae_cli.commands.train")

    def run(config, directory):
        calls.append((config, directory))
        return StageResult(directory=directory)

    monkeypatch.setattr(stage, "run", run, raising=False)
    monkeypatch.setitem(sys.modules, stage.__name__, stage)
    return calls


def test_unfinished_runs_are_listed_and_those_that_can_go_on_are_on_stdout(begun):
    root = begun.parent
    with open_run(root / "done", "train", {}) as run:
        run.finish()
    with open_run(root / "c", "compare", {}):
        pass
    with open_run(root / "done" / "eval" / "default", "eval", {}):
        pass
    with open_run(root / "early", "train", {}):
        pass  # its configuration was not yet written
    with open_run(root / "busy", "train", {}) as run:
        run.write_text(CONFIG_FILE, "a: 1\n")
        listing = resume.listing([root])
    assert listing.directories == [begun]
    assert listing.title == f"5 unfinished runs in {root}; resume with sae resume RUN"
    shown = {row[0]: row[1:] for row in listing.table}
    again = "run its sae {0} command again, which begins it again"
    assert shown["c"] == ("compare", again.format("compare"), "", SAYS_KILLED)
    assert shown["done/eval/default"] == ("eval", again.format("eval"), "", SAYS_KILLED)
    assert shown["t"] == ("train", "no checkpoint yet", "", SAYS_KILLED)
    assert shown["busy"][3].startswith(f"running {os.getpid()}@")
    can_go_on = {each["run"]: each["can_go_on"] for each in document_of(listing)["runs"]}
    assert [run for run, can in can_go_on.items() if can] == [str(begun)]


def test_nothing_to_go_on_with(tmp_path):
    assert resume.listing([tmp_path]).title == f"no unfinished runs in {tmp_path}"
    assert resume.listing([tmp_path / "runs"], named=False).directories == []
    with pytest.raises(RequestError, match="no such folder"):
        resume.listing([tmp_path / "runs"])


def test_the_stage_gets_the_stored_configuration_but_does_not_begin_again(begun, called, world, tmp_path):
    resume.resume_run(begun)
    assert called == [(world.train(tmp_path, overwrite=False), begun)]


def test_paths_mean_what_they_meant_where_the_run_was_begun(begun, called, world, tmp_path, monkeypatch):
    os.symlink(world.model, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    config = world.train(tmp_path)
    config.model.path, config.data.path = "./model", os.path.relpath(world.text)
    with open_run(tmp_path / "r", "train", result_settings(config)) as run:
        run.write_text(CONFIG_FILE, as_yaml(config))
    monkeypatch.chdir("/")
    resume.resume_run(tmp_path / "r")
    ((found, _),) = called
    assert (found.model.path, found.data.path) == (str(tmp_path / "model"), str(world.text))
    assert found.train.forbid_direction is None


def test_what_is_finished_is_found(tmp_path, capsys):
    with open_run(tmp_path, "compare", {}) as run:
        run.finish()
    assert resume.resume_run(tmp_path).directory == tmp_path
    assert f"already finished: {tmp_path}" in capsys.readouterr().err


def test_what_cannot_go_on_says_so(begun):
    with open_run(begun.parent / "c", "compare", {}):
        pass
    with pytest.raises(
        RequestError, match=r"c: a compare run does not go on where it was stopped; run its sae compare"
    ):
        resume.resume_run(begun.parent / "c")
    (begun / CONFIG_FILE).unlink()
    with pytest.raises(JobError, match=r"t: stopped before its config.yaml was written; run its sae train command"):
        resume.resume_run(begun)
    (begun / MANIFEST).write_text("{")
    with pytest.raises(JobError, match="expected a manifest that ends"):
        resume.resume_run(begun)


def test_settings_that_have_changed_since_are_refused(begun):
    path = begun / CONFIG_FILE
    path.write_text(path.read_text().replace("dict_size: 48", "dict_size: 50"))
    with pytest.raises(RequestError, match="holds a run with other settings: dict_size: 48 -> 50"):
        resume.resume_run(begun)


def test_a_training_ends_as_if_it_had_not_been_stopped(world, tmp_path, monkeypatch):
    config = world.train(tmp_path)
    config.checkpoint.every_seconds = 0
    train.run(config, tmp_path / "whole")
    step = Trainer.step

    def stop(self, *pair):
        if self.step_number == 5:
            raise JobError("power cut")
        step(self, *pair)

    monkeypatch.setattr(Trainer, "step", stop)
    with pytest.raises(JobError, match="power cut"):
        train.run(config, tmp_path / "stopped")
    monkeypatch.setattr(Trainer, "step", step)
    (row,) = resume.listing([tmp_path]).table
    assert row[:3] == ("stopped", "train", "5 of 16 steps (31.2%)") and row[4] == "power cut"
    result = resume.resume_run(tmp_path / "stopped")
    assert result.directory == tmp_path / "stopped"
    whole, stopped = (read_run(tmp_path / name).manifest.files["sae.safetensors"] for name in ("whole", "stopped"))
    assert stopped == whole


def test_a_harvest_ends_as_if_it_had_not_been_stopped(world, tmp_path, monkeypatch):
    config, write = world.harvest(tmp_path), ShardWriter._write
    whole = read_run(harvest.run(config, tmp_path / "whole").directory).manifest.files

    def stop(self, shard, *rest):
        if shard == 2:
            raise JobError("power cut")
        write(self, shard, *rest)

    monkeypatch.setattr(ShardWriter, "_write", stop)
    with pytest.raises(JobError, match="power cut"):
        harvest.run(config, tmp_path / "stopped")
    monkeypatch.setattr(ShardWriter, "_write", write)
    (row,) = resume.listing([tmp_path]).table
    assert row[2].startswith("2 of ") and row[3].endswith(" s ago")
    assert read_run(resume.resume_run(tmp_path / "stopped").directory).manifest.files == whole
