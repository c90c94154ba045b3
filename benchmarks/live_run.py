"""A whole training run on a live model against what it cannot do without: the bare forward pass, cut off at the hook
point, over the same rows, and as many steps on activations that are in memory.

    python benchmarks/live_run.py tokens=200_000
    python benchmarks/live_run.py model=hf model.path=FOLDER model.dtype=auto data=text data.path=FOLDER \\
        layer=9 sae=topk dict_size=8192 tokens=500_000

The run is `sae train` from its start to the saved dictionary: loading the model, tokenizing, held-out activations, the
shuffle window, every line of the curve. The floor is measured in the same process, before it and after it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import timing
import torch

from sae_cli import build
from sae_cli.activations.live import LiveActivations
from sae_cli.commands import train
from sae_cli.config.commands.train import TrainConfig
from sae_cli.config.compose import configured
from sae_cli.models import Site
from sae_cli.tensor_types import Rows
from sae_cli.terminal import console
from sae_cli.training.recipe import recipe_of
from sae_cli.training.trainer import Trainer

PASSES = 12
"""Forward passes of the floor that are timed, before the run and after it."""
IN_MEMORY = 65_536
"""Activations that the steps of the floor go round in."""


class Seconds(NamedTuple):
    """On the clock, and of all processor cores together: the second is what a busy machine changes little."""

    clock: float
    cores: float

    @classmethod
    def of(cls, work: Callable[[], object]) -> Seconds:
        clock, cores = time.perf_counter(), time.process_time()
        work()
        return cls(time.perf_counter() - clock, time.process_time() - cores)

    def times(self, n: float) -> Seconds:
        return Seconds(self.clock * n, self.cores * n)

    def plus(self, other: Seconds) -> Seconds:
        return Seconds(self.clock + other.clock, self.cores + other.cores)


def bare(live: LiveActivations, site: Site, rows: list[Rows]) -> None:
    """The truncated forward passes, whose activations are not kept."""
    for tokens in rows:
        live.model.capture(tokens, [site])


def steps(config: TrainConfig, activations: torch.Tensor) -> None:
    """The steps of the run, on activations that are in memory, from the beginning of training to its end."""
    recipe = recipe_of(config)
    trainer = Trainer(recipe, build.objective(config, activations.shape[1]), activations, torch.device("cpu"))
    whole = activations[: len(activations) // config.train.batch_size * config.train.batch_size]
    for batch in islice(cycle(whole.split(config.train.batch_size)), recipe.steps):
        trainer.step(batch)
        if trainer.step_number % config.train.log_every == 0:
            trainer.close_window()


def captured(live: LiveActivations, site: Site, rows: Iterator[Rows], n: int) -> torch.Tensor:
    """The activations of the first rows."""
    found: list[torch.Tensor] = []
    while sum(map(len, found)) < n:
        found.append(live.model.capture(next(rows), [site])[site][:, 1:].flatten(0, 1).float())
    return torch.cat(found)[:n]


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("overrides", nargs="*", help="of sae train: model=… hook=… layer=… tokens=…")
    arguments = parser.parse_args()
    console.configure(quiet=True)
    with TemporaryDirectory() as folder:
        config = configured(TrainConfig, [*arguments.overrides, f"runs_dir={folder}"])
        live = LiveActivations(config, torch.device("cpu"))
        site = live.watch(config)
        per_row = live.stream.policy.context - 1
        passes = config.tokens / (per_row * config.model_rows)
        stream = (torch.from_numpy(block.tokens) for block in live.stream.forever(config.model_rows))
        rows = list(islice(stream, PASSES))
        activations = captured(live, site, iter(rows * PASSES), min(IN_MEMORY, config.tokens))
        bare(live, site, rows[:1])

        before = Seconds.of(lambda: bare(live, site, rows)).times(passes / PASSES)
        run = Seconds.of(lambda: train.run(config, Path(folder) / "run"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        after = Seconds.of(lambda: bare(live, site, rows)).times(passes / PASSES)
        memory = Seconds.of(lambda: steps(config, activations))
    forward = before.plus(after).times(0.5)
    floor = forward.plus(memory)
    shown = [
        ("bare forward passes", *forward),
        ("steps from memory", *memory),
        ("sae train", *run),
        ("sae train / (passes + steps)", run.clock / floor.clock, run.cores / floor.cores),
        ("peak memory, GB (with the floor's model)", peak / 1e9, ""),
    ]
    timing.report(
        "live run",
        ("what", "seconds", "seconds of cores"),
        shown,
        {
            "overrides": arguments.overrides,
            "dtype": str(live.model.dtype),
            "tokens": config.tokens,
            "forward": forward._asdict(),
            "steps": memory._asdict(),
            "run": run._asdict(),
            "ratio": run.clock / floor.clock,
            "ratio of cores": run.cores / floor.cores,
            "peak bytes": peak,
        },
        arguments.json,
    )


if __name__ == "__main__":
    main()
