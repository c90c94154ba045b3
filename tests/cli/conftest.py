"""The command line in this process, in an empty folder, with a stage that does no work."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sae_cli.cli.main import run
from sae_cli.errors import JobError
from sae_cli.jobs.result import StageResult


@dataclass
class FakeStage:
    """Stands in for a stage: writes its directory, or fails where `failing` holds for the configuration."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failing: Callable[[Any], bool] = lambda config: False
    error: Callable[[], BaseException] = lambda: JobError("it broke")
    together: list[int] = field(default_factory=list)
    document: dict[str, Any] = field(default_factory=lambda: {"figures": {"l0": 12.5}, "nan": float("nan")})

    def run(self, config: Any, directory: Path, *evaluation: str) -> StageResult:
        self.calls.append((config, directory, *evaluation))
        if self.failing(config):
            raise self.error()
        directory.mkdir(parents=True)
        return StageResult(
            directory=directory, document=self.document, title="what was done", table=[("label", "value [red]")]
        )

    def run_together(self, requests: list[tuple[Any, ...]]) -> list[StageResult | Exception]:
        self.together.append(len(requests))
        return [self._attempt(request) for request in requests]

    def _attempt(self, request: tuple[Any, ...]) -> StageResult | Exception:
        try:
            return self.run(*request)
        except JobError as error:
            return error


@dataclass
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAE_RUNS", raising=False)
    return tmp_path


@pytest.fixture
def sae(folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `sae` with these arguments."""

    def call(*arguments: str) -> Ended:
        code = run(arguments)
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return call


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> FakeStage:
    """Takes the place of every stage."""
    fake = FakeStage()
    for name in ("harvest", "train", "eval"):
        module = ModuleType(f"sae_cli.commands.{name}")
        module.run = fake.run  # type: ignore[attr-defined]
        if name != "eval":
            module.run_together = fake.run_together  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return fake
