"""The manifest of a harvest of many shards: true at every moment, and not what the time goes into."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sae_cli.activations import harvested
from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.harvested import ShardPlan, ShardWriter
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.run_directory import Run, open_run
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
