"""Harvesting against the forward pass that it cannot do without: the bare one, cut off at the hook point.

    python benchmarks/harvest.py --tokens 200_000

The bare pass runs the same rows, already tokenized, and keeps nothing. `sae harvest` reads and tokenizes text, runs
the model, writes, syncs and hashes shards.
"""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import timing
import torch

from sae_cli.activations.live import LiveActivations
from sae_cli.artifacts.stored_run import read_run
from sae_cli.commands import harvest
from sae_cli.config.commands.harvest import HarvestConfig
from sae_cli.config.compose import configured
from sae_cli.terminal import console


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("overrides", nargs="*", help="of sae harvest: model=… hook=… layer=…")
    arguments = parser.parse_args()
    console.configure(quiet=True)
    config = configured(
        HarvestConfig, [f"tokens={arguments.tokens}", f"device={arguments.device}", *arguments.overrides]
    )
    live = LiveActivations(config, torch.device(arguments.device))
    site = live.watch(config)
    per_row = live.stream.policy.context - 1
    passes = -(-arguments.tokens // (per_row * config.model_rows))
    rows = [torch.from_numpy(block.tokens) for block in islice(live.stream.forever(config.model_rows), passes)]

    def bare() -> None:
        for tokens in rows:
            live.model.capture(tokens, [site])

    with TemporaryDirectory() as folder:
        clocks: list[float] = []

        def whole() -> None:
            result = harvest.run(config, Path(folder) / str(time.time_ns()))
            # from the first pass to the last shard on disk
            clocks.append(read_run(result.directory).fact("seconds", float))

        measured = timing.interleave(
            {"bare forward pass": bare, "sae harvest": whole}, arguments.rounds, 1, live.device
        )
    measured["sae harvest"] = timing.Timing(clocks[1:])
    tokens = {"bare forward pass": passes * config.model_rows * per_row, "sae harvest": arguments.tokens}
    figures = [
        {"name": name, "tokens/s": tokens[name] / each.median, "spread": each.spread} for name, each in measured.items()
    ]
    share = figures[1]["tokens/s"] / figures[0]["tokens/s"]
    rows_shown = [(f["name"], f["tokens/s"], f"±{f['spread']:.0%}") for f in figures]
    timing.report(
        "harvest",
        ("what", "tokens/s", "spread"),
        [*rows_shown, ("share of the bare pass", share, "")],
        {"tokens": arguments.tokens, "figures": figures, "share": share},
        arguments.json,
    )


if __name__ == "__main__":
    main()
