"""How a step's cost grows with the dictionary and with the number of active features, and where the paths cross.

    python benchmarks/cost.py --json results.json --plot cost.png

The trainer's own step with the sparse and with the dense kernel; `auto` changes between them where they cross.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import timing
from train_step import batches, our_trainer, start

from sae_cli.kernels.choice import bfloat16_is_fast

TOKENS, WIDTH = 1024, 512


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--features", default="2048,8192,32768,131072")
    parser.add_argument("--active", default="10,30,100,200,500")
    parser.add_argument("--plot", type=Path)
    parser.set_defaults(rounds=3)
    arguments = parser.parse_args()
    dense = "dense_bf16" if bfloat16_is_fast() else "dense"
    x = batches(TOKENS, WIDTH)[0]
    figures = []
    for features in map(int, arguments.features.split(",")):
        for active in map(int, arguments.active.split(",")):
            begin = start("l1", features, active, x)
            steps = {}
            for kernel in ("sparse", dense):
                trainer = our_trainer("l1", begin, active, x, "auto" if kernel == "dense" else kernel)
                trainer.kernels.observe = lambda density: None  # `auto` begins with the dense kernel: keep it
                steps[kernel] = lambda trainer=trainer: trainer.step(x)
            measured = timing.interleave(steps, arguments.rounds, warmup=1)
            figures.append({
                "features": features,
                "active": active,
                "sparse": measured["sparse"].median,
                "dense": measured[dense].median,
            })  # fmt: skip
    for features in sorted({each["features"] for each in figures}):
        crossing = _crossing([each for each in figures if each["features"] == features])
        for each in figures:
            if each["features"] == features:
                each["crossing"] = crossing
    rows = [
        (each["features"], each["active"], 1000 * each["sparse"], 1000 * each["dense"], each["crossing"] or "none")
        for each in figures
    ]
    header = ("features", "active", "sparse, ms", "dense, ms", "crossing at active")
    report = {"tokens": TOKENS, "width": WIDTH, "figures": figures}
    timing.report("cost", header, rows, report, arguments.json)
    if arguments.plot:
        _plot(figures, arguments.plot)


def _crossing(line: list[dict[str, float]]) -> float | None:
    """Active features at which both cost the same, between two that were measured."""
    for low, high in pairwise(sorted(line, key=lambda each: each["active"])):
        before, after = low["dense"] - low["sparse"], high["dense"] - high["sparse"]
        if before > 0 >= after:
            return low["active"] + (high["active"] - low["active"]) * before / (before - after)
    return None


def _plot(figures: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for number, features in enumerate(sorted({each["features"] for each in figures})):
        line = [each for each in figures if each["features"] == features]
        active = [each["active"] for each in line]
        color = f"C{number}"
        axes.plot(active, [1000 * each["sparse"] for each in line], "o-", color=color, label=f"F = {features:,}")
        axes.plot(active, [1000 * each["dense"] for each in line], "s--", color=color)
        if crossing := line[0]["crossing"]:
            axes.axvline(crossing, color=color, linewidth=0.8, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="active features a token", ylabel="ms a step")
    axes.set_title(f"One step, {TOKENS:,} tokens of width {WIDTH}: sparse (solid) and dense (dashed)")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
