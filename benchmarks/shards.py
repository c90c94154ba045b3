"""What a shard of a harvest costs where there are few and where there are many.

    python benchmarks/shards.py --shards 20,2000 --json shards.json

Activations are made before the clock starts; what is measured is writing, hashing, syncing and listing them. Processor
time is measured too, which what else the machine does changes less.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timing
import torch

from sae_cli.activations.blocks import FIRST_POSITION, ActivationBlock
from sae_cli.activations.harvested import ShardPlan, ShardWriter
from sae_cli.artifacts.run_directory import open_run
from sae_cli.text.packing import TokenRows


def write(shards: int, rows: int, context: int, width: int) -> tuple[float, float]:
    """Seconds, and processor seconds, a shard."""
    per_row = context - FIRST_POSITION
    plan = ShardPlan(rows * shards, rows, per_row)
    tokens = np.zeros((rows, context), dtype=np.int64)
    numbers = torch.zeros(rows * per_row, dtype=torch.int64)
    block = ActivationBlock(torch.randn(rows * per_row, width), numbers, numbers, numbers)
    with TemporaryDirectory() as folder:
        began, used = time.perf_counter(), time.process_time()
        with open_run(Path(folder) / "run", "harvest", {}) as run:
            with ShardWriter(run, plan, torch.float16) as writer:
                for _ in range(shards):
                    writer.add(TokenRows(tokens, tokens, None), block)
            run.finish()
        return (time.perf_counter() - began) / shards, (time.process_time() - used) / shards


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--shards", default="20,2000")
    parser.add_argument("--rows", type=int, default=4, help="of text in a shard")
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--width", type=int, default=256)
    parser.set_defaults(rounds=3)
    arguments = parser.parse_args()
    counts = [int(each) for each in arguments.shards.split(",")]
    found = {count: ([], []) for count in counts}
    for _ in range(arguments.rounds):
        for count in counts:
            for kept, new in zip(
                found[count], write(count, arguments.rows, arguments.context, arguments.width), strict=True
            ):
                kept.append(new)
    first = found[counts[0]]
    figures = [
        {
            "shards": count,
            "seconds a shard": timing.Timing(seconds).median,
            "processor seconds a shard": timing.Timing(used).median,
            "times the first": timing.Timing(seconds).median / timing.Timing(first[0]).median,
            "processor time, times the first": timing.Timing(used).median / timing.Timing(first[1]).median,
        }
        for count, (seconds, used) in found.items()
    ]
    header = ("shards", "ms a shard", "processor ms a shard", "times the first", "processor time, times the first")
    rows = [(f["shards"], *[1000 * v for v in list(f.values())[1:3]], *list(f.values())[3:]) for f in figures]
    timing.report(
        "shards", header, rows, {"settings": vars(arguments) | {"json": None}, "figures": figures}, arguments.json
    )


if __name__ == "__main__":
    main()
