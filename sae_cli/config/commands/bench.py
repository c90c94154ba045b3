"""`sae bench`: a dictionary by the protocol and the formulas of a benchmark."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from sae_cli.config.command import MeasuringConfig
from sae_cli.config.evaluation import EvaluationConfig, Exclude
from sae_cli.config.idle import Idle
from sae_cli.config.roles import PathKind, number, place, setting, settings


class Suite(Enum):
    """Which benchmark. `core`: SAEBench's core figures."""

    core = "core"


@dataclass(kw_only=True)
class BenchConfig(MeasuringConfig):
    """`sae bench`: a dictionary by a benchmark's formulas, ours beside them; `sae bench PATH` means `run=PATH`.

    Attributes:
        run: the dictionary's run directory.
        suite: which benchmark.
        data: another corpus than the one the dictionary was trained on; null for the same.
        context: tokens a row, whatever the dictionary was trained with.
        batch_rows: rows of text a batch, over which some of the figures have means inside.
        eval: held-out text; positions of special tokens are left out, the first of a row is not.
        out: a folder for what is measured, where the run cannot be written; null for the run's own.
    """

    command: ClassVar[str] = "bench"
    lives: ClassVar[str] = "a benchmark's figures live in their"
    held_in_memory: ClassVar[tuple[str, ...]] = ("model_rows", "batch_rows", "eval.tokens")
    own_data: ClassVar[tuple[str, ...]] = ("data.context",)

    suite: Suite = setting(Suite.core)
    context: int = number(128, at_least=2)
    batch_rows: int = number(16, at_least=1)
    eval: EvaluationConfig = settings(lambda: EvaluationConfig(exclude=[Exclude.bos, Exclude.eos, Exclude.pad]))
    out: str | None = place(PathKind.here, None, execution=True)

    def __post_init__(self) -> None:
        if isinstance(self.run, list) and len(self.run) == 1:
            self.run = self.run[0]
        if isinstance(self.run, list):
            raise ValueError(
                f"run=[…] of {len(self.run)}: expected one dictionary; give -m run=A,B for one after another"
            )

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        yield Idle("data.context", "with sae bench, whose rows are as long as context= says", "give context=")
