"""Reading shards into shuffled batches, against reading the same files from end to end.

    python benchmarks/read.py --tokens 1_000_000 --width 512

Both from the page cache: a disk that is slower than memory makes the two more alike.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import timing
import torch

from sae_cli.activations.blocks import ActivationBlock
from sae_cli.activations.harvested import ACTIVATIONS, HarvestedActivations
from sae_cli.activations.shuffle import ShuffledFetches, ShufflePlan
from sae_cli.artifacts.run_directory import open_run


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--shard-tokens", type=int, default=131_072)
    parser.add_argument("--batch-size", type=int, default=4096)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        run = open_run(Path(folder) / "run", "harvest", {})
        for number, start in enumerate(range(0, arguments.tokens, arguments.shard_tokens)):
            n = min(arguments.shard_tokens, arguments.tokens - start)
            origin = torch.arange(n)
            block = ActivationBlock(torch.randn(n, arguments.width), origin, origin, origin)
            run.write_tensors(f"{ACTIVATIONS}-{number:05d}.safetensors", vars(block))
        finished = run.finish(tokens=arguments.tokens)
        paths = [finished.directory / name for name in finished.file_names(ACTIVATIONS)]
        scratch = bytearray(max(path.stat().st_size for path in paths))

        def sequential() -> None:
            for path in paths:
                with open(path, "rb", buffering=0) as file:
                    file.readinto(scratch)

        def shuffled() -> None:
            store = HarvestedActivations(finished)
            cut = ShufflePlan(arguments.tokens, arguments.shard_tokens, arguments.batch_size, seed=0)
            for _ in ShuffledFetches(store.fetch, cut):
                pass

        measured = timing.interleave({"sequential": sequential, "shuffled": shuffled}, arguments.rounds)
    size = 4 * arguments.width * arguments.tokens
    share = timing.ratio(measured["sequential"], measured["shuffled"])
    rows = [(name, size / each.median / 1e9, f"±{each.spread:.0%}") for name, each in measured.items()]
    figures = {name: {"seconds": each.median, "spread": each.spread} for name, each in measured.items()}
    timing.report(
        "read",
        ("what", "GB/s", "spread"),
        [*rows, ("share of sequential", share, "")],
        {"tokens": arguments.tokens, "width": arguments.width, "figures": figures, "share": share},
        arguments.json,
    )


if __name__ == "__main__":
    main()
