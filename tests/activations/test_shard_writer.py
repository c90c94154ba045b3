"""The manifest of a harvest of many shards: true at every moment, and not what the time goes into."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sae_cli.activations import harvested
from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.harvested import ShardPlan, ShardWriter
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.run_directory import Run, open_run
from sae_cli.errors import JobError
from sae_cli.text.packing import TokenRows

SHARDS, T, D = 30, 4, 2
PLAN = ShardPlan.of(SHARDS * (T - 1), T - 1, T - 1)


def add_shards(writer: ShardWriter, n: int) -> None:
    for i in range(n):
        rows = TokenRows(np.full((1, T), i), np.zeros((1, T), dtype=np.int64), None)
        tokens = torch.full((T - 1,), i)
        writer.add(rows, ActivationBlock(torch.ones(T - 1, D), tokens, torch.arange(1, T), torch.zeros_like(tokens)))


@pytest.fixture
def saved(monkeypatch):
    """How often progress was saved."""
    counted, save = [], Run.save_progress
    monkeypatch.setattr(Run, "save_progress", lambda self, *given: (counted.append(1), save(self, *given))[1])
    return counted


def test_while_they_are_few_every_shard_is_saved(tmp_path, saved):
    with open_run(tmp_path / "run", "harvest", {}) as run, ShardWriter(run, PLAN, torch.float32) as writer:
        add_shards(writer, SHARDS)
    assert len(saved) == SHARDS


@pytest.mark.parametrize("stopped", [False, True])
def test_many_are_saved_seldom_and_none_is_lost(tmp_path, saved, monkeypatch, stopped):
    monkeypatch.setattr(harvested, "_FEW", 3)
    monkeypatch.setattr(harvested, "_SELDOM", 1e9)  # as if each had taken years
    with open_run(tmp_path / "run", "harvest", {}) as run:
        try:
            with ShardWriter(run, PLAN, torch.float32) as writer:
                add_shards(writer, SHARDS - 5)
                if stopped:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert len(saved) == 3 + 1
        assert len(read_manifest(tmp_path / "run").files) == 2 * (SHARDS - 5)


def test_several_are_written_at_once_and_listed_in_order(tmp_path, saved, monkeypatch):
    """The first shard takes until the two after it are on the disk; no more than three are on their way."""
    lists, started, ended = [], [], threading.Semaphore(0)
    write, note = harvested.write_tensors, Run.note_file

    def slow(path, tensors):
        if path.name.startswith("activations"):
            started.append(path.name)
            if "00000" in path.name:
                assert ended.acquire(timeout=30) and ended.acquire(timeout=30)
            record = write(path, tensors)
            ended.release()
            return record
        return write(path, tensors)

    monkeypatch.setattr(harvested, "writers", lambda: 3)
    monkeypatch.setattr(harvested, "write_tensors", slow)
    monkeypatch.setattr(Run, "note_file", lambda self, name, record: (lists.append(name), note(self, name, record)))
    with open_run(tmp_path / "run", "harvest", {}) as run, ShardWriter(run, PLAN, torch.float32) as writer:
        for _ in range(SHARDS):
            add_shards(writer, 1)
            assert len(writer._writing) <= 3
    expected = [name for shard in range(SHARDS) for name in reversed(PLAN.file_names(shard))]
    assert lists == expected and sorted(started) == sorted(expected[1::2])
    assert len(read_manifest(tmp_path / "run").files) == 2 * SHARDS


def test_a_shard_that_cannot_be_written_is_the_end_of_those_after_it(tmp_path, monkeypatch):
    write = harvested.write_tensors

    def full(path, tensors):
        if "00002" in path.name:
            raise JobError("no space")
        return write(path, tensors)

    monkeypatch.setattr(harvested, "writers", lambda: 2)
    monkeypatch.setattr(harvested, "write_tensors", full)
    with (
        pytest.raises(JobError, match="no space"),
        open_run(tmp_path / "run", "harvest", {}) as run,
        ShardWriter(run, PLAN, torch.float32) as writer,
    ):
        add_shards(writer, SHARDS)
    assert len(read_manifest(tmp_path / "run").files) == 2 * 2


def test_writers_are_as_many_as_there_are_cores_for_them(monkeypatch):
    for cores, expected in ((None, 1), (1, 1), (2, 1), (4, 2), (64, 4)):
        monkeypatch.setattr(harvested.os, "cpu_count", lambda cores=cores: cores)
        assert harvested.writers() == expected
