"""Trackers: each line of the training curve once, through stops, kills and new beginnings."""

from __future__ import annotations

import json
import os
import signal
import stat
import struct
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from sae_cli.commands import train
from sae_cli.config.tracking import trackers
from sae_cli.errors import Interrupted, RequestError
from sae_cli.terminal import interruption
from sae_cli.training.trackers import tracking
from sae_cli.training.trackers.tracking import Tracking, check_trackers
from sae_cli.training.trainer import Trainer

BLOCK = 32768


class Fake:
    """Keeps what it is given; breaks at one step."""

    failures = (ConnectionError,)

    def __init__(self, about, breaks_at=-1):
        self.about, self.breaks_at, self.lines, self.ended = about, breaks_at, [], None
        self.has = about.given

    def log(self, step, figures):
        if step == self.breaks_at:
            raise ConnectionError("the network is down")
        self.lines.append({"step": step, **figures})

    def close(self, failed):
        self.ended = failed


@pytest.fixture
def opened(monkeypatch):
    """All trackers that were opened, none of which is real."""
    found = []
    monkeypatch.setattr(tracking, "_tracker", lambda name, about: found.append(Fake(about)) or found[-1])
    monkeypatch.setattr("sae_cli.commands.train.check_trackers", lambda names: None)
    return found


def line(step):
    return {"step": step, "tokens": 10 * step, "loss": 1 / step, "held_out_fvu": None}


def give(directory, *steps, names=("tensorboard",), anew=False):
    with Tracking(names, directory, {"l1": 1.0}, anew) as tracking:
        for step in steps:
            tracking.log(line(step))


def steps_of(fake):
    return [each["step"] for each in fake.lines]


def test_each_line_once_whatever_is_repeated(tmp_path, opened):
    give(tmp_path / "a", 10, 20, 30, anew=True)
    give(tmp_path / "a", 10, 20, 30, 40)  # what was done after the last checkpoint is done again
    give(tmp_path / "a", 10, 20, 30, 40, 50, names=("tensorboard", "wandb"))  # and one that joins late
    assert [steps_of(each) for each in opened] == [[10, 20, 30], [40], [50], [10, 20, 30, 40, 50]]
    assert [each.about.given for each in opened] == [0, 30, 40, 0]
    assert {each.about.beginning for each in opened} == {1}
    assert opened[0].lines[0] == {"step": 10, "tokens": 100, "loss": 0.1}


def test_a_run_that_is_begun_anew_is_another_one(tmp_path, opened):
    give(tmp_path / "a", 10, 20, anew=True)
    give(tmp_path / "a", 10, 20, anew=True)
    assert [steps_of(each) for each in opened] == [[10, 20], [10, 20]]
    assert [each.about.beginning for each in opened] == [1, 2] and opened[1].about.given == 0


def test_what_was_begun_anew_and_killed_at_once_is_still_another_one(tmp_path, opened):
    give(tmp_path / "a", 10, 20, anew=True)
    give(tmp_path / "a", anew=True)
    give(tmp_path / "a", 10)
    assert [steps_of(each) for each in opened] == [[10, 20], [], [10]]
    assert [each.about.beginning for each in opened] == [1, 2, 2]


def test_runs_beside_each_other_do_not_meet(tmp_path, opened):
    give(tmp_path / "a", 10, anew=True)
    give(tmp_path / "b", 10, anew=True)
    assert [steps_of(each) for each in opened] == [[10], [10]]


def test_one_that_fails_is_left_behind(tmp_path, opened, capsys):
    with Tracking(["wandb"], tmp_path / "a", {}, anew=True) as tracking:
        opened[0].breaks_at = 20
        for step in (10, 20, 30):
            tracking.log(line(step))
    assert steps_of(opened[0]) == [10]
    assert capsys.readouterr().err == "warning: tracker=wandb: the network is down; training goes on without it\n"


def test_without_trackers_nothing_is_written(tmp_path):
    give(tmp_path / "a", 10, names=())
    assert not list(tmp_path.iterdir())


def test_a_training_that_is_stopped_and_killed(world, tmp_path, opened, monkeypatch):
    config = world.train(tmp_path, tracker="tensorboard")
    config = replace(config, train=replace(config.train, log_every=2))
    step = Trainer.step

    def stop(self, *pair):
        step(self, *pair)
        if self.step_number == 6 and len(opened) == 1:
            interruption.ask_to_stop(signal.SIGTERM)
        if self.step_number == 11 and len(opened) == 2:
            raise Interrupted("killed", 9)  # without a checkpoint

    monkeypatch.setattr(Trainer, "step", stop)
    for _ in range(2):
        with pytest.raises(Interrupted):
            train.run(config, tmp_path / "run")
    train.run(config, tmp_path / "run")
    assert [steps_of(each) for each in opened] == [[2, 4, 6], [8, 10], [12, 14, 16]]
    assert [each.ended for each in opened] == [True, True, False]
    lines = [json.loads(each) for each in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [each["loss"] for each in lines] == [each["loss"] for fake in opened for each in fake.lines]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "manifest.json", "config.yaml", "sae.safetensors", "metrics.jsonl", "density_history.safetensors"
    }  # fmt: skip


def test_a_package_that_is_missing(world, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    says = r"^tracker=wandb: expected the package wandb, which is not installed: pip install 'sae-cli\[wandb\]'$"
    with pytest.raises(RequestError, match=says):
        train.run(world.train(tmp_path, tracker=["wandb"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_trackers([])


def test_the_setting():
    assert trackers(None) == trackers("none") == trackers([]) == []
    assert trackers("wandb") == ["wandb"]
    assert trackers(["wandb", "tensorboard", "wandb"]) == ["tensorboard", "wandb"]
    with pytest.raises(ValueError, match=r"^tracker=wandbb: expected none, tensorboard, wandb or a list of them$"):
        trackers(["wandbb"])


@pytest.mark.filterwarnings("default")
def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    give(tmp_path / "a", 99, anew=True)
    give(tmp_path / "a", 10, 20, anew=True)
    give(tmp_path / "a", 20, 30)
    found = EventAccumulator(str(tmp_path / ".trackers" / "tensorboard" / "a")).Reload()
    assert found.Tags()["scalars"] == ["tokens", "loss"]
    assert [(each.step, each.value) for each in found.Scalars("tokens")] == [(10, 100.0), (20, 200.0), (30, 300.0)]


@pytest.mark.filterwarnings("default")
def test_weights_and_biases_offline(tmp_path, monkeypatch, capsys):
    """A run has one id, and what there is to be sent has each step once; one that is begun anew has another id."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    found = []
    for steps, anew, lines in (((10, 20), True, [2]), ((10, 20, 30), False, [3]), ((10,), True, [1, 3])):
        give(tmp_path / "a", *steps, names=["wandb"], anew=anew)
        found.append(histories(tmp_path / ".trackers" / "wandb", lines))
    ((one, first),), ((same, second),), both = found
    assert one == same and first == [(10, 100), (20, 200)] and second == [*first, (30, 300)]
    assert len(both) == 2 and (one, second) in both and {name for name, _ in both} != {one}
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 3 and "wandb: wandb sync " in captured.err


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_trackers_keep_obeys_the_umask(name, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    end_its_process = getattr(pytest.importorskip(name), "teardown", lambda: None)
    end_its_process()  # which has the umask that it was begun with
    before = os.umask(0o027)
    try:
        give(tmp_path / "a", 10, 20, names=[name], anew=True)
    finally:
        os.umask(before)
        end_its_process()
    found = [path for path in (tmp_path / ".trackers" / name).rglob("*") if not path.is_symlink()]
    assert {stat.S_IMODE(path.stat().st_mode) & 0o777 for path in found if path.is_file()} == {0o640}
    assert {stat.S_IMODE(path.stat().st_mode) & 0o777 for path in found if path.is_dir()} <= {0o750}


def histories(folder, lines):
    """What is to be sent, once there are so many lines of it: another process writes it, a little later."""
    from google.protobuf.message import DecodeError

    found = []
    for _ in range(300):
        with suppress(struct.error, DecodeError):  # half a record
            found = [history(path) for path in folder.glob("offline-run-*/*.wandb")]
        if sorted(len(steps) for _, steps in found) == lines:
            break
        time.sleep(0.1)
    return found


def history(path):
    """Id, and steps with their tokens, of a file that Weights & Biases has left to be sent."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue] (made at run time)

    name, found = "", []
    for content in records(path.read_bytes()):
        record = Record()
        record.ParseFromString(content)
        match record.WhichOneof("record_type"):
            case "run":
                name = record.run.run_id
            case "history":
                values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
                found.append((values["_step"], values["tokens"]))
    return name, found


def records(content):
    """The records of a file in LevelDB's log format, after seven bytes of its own."""
    at, held = 7, b""
    while at < len(content):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack_from("<IHB", content, at)
        held += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or the last part of one
            yield held
            held = b""
