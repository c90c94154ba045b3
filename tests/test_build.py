"""The device that a command runs on."""

from __future__ import annotations

import pytest
import torch

from sae_cli import build
from sae_cli.errors import RequestError


@pytest.mark.parametrize("name", ["mps", "xpu", "meta", "vulkan", "mps:0"])
def test_a_device_that_nothing_here_runs_on_is_refused(name):
    with pytest.raises(RequestError, match=f"device={name}: expected auto, cpu, cuda or cuda:N, found .*; use cpu"):
        build.device(name)


def test_a_name_of_none_is_refused():
    with pytest.raises(RequestError, match="device=gpu: expected auto, cpu, cuda or cuda:N"):
        build.device("gpu")


def test_a_gpu_is_made_the_current_one(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert [build.device(name) for name in ("cuda:1", "auto", "cpu")] == [*map(torch.device, ("cuda:1", "cuda", "cpu"))]
    assert current == [torch.device("cuda:1"), torch.device("cuda")]
    with pytest.raises(RequestError, match="device=cuda:2: this machine has 2 CUDA devices"):
        build.device("cuda:2")
