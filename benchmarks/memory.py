"""Resident memory of a long training on a live model: is it flat?

    python benchmarks/memory.py --plot memory.png tokens=20_000_000
    python benchmarks/memory.py data=synthetic tokens=20_000_000

Runs `sae train` with these overrides and a checkpoint every few seconds, and looks at the process once a second
(Linux only). The figure is the growth per million tokens over the last three quarters of the run, a straight line's
slope, beside what the process holds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import timing

DEFAULTS = (
    "model=demo-xs",
    "layer=0",
    "dict_size=128",
    "train.batch_size=4096",
    "train.held_out_every=1000",
    "model_rows=64",
    "checkpoint.every_seconds=10",
)


class Sample(NamedTuple):
    """Seconds since the start, tokens trained on, resident megabytes."""

    seconds: float
    tokens: int
    megabytes: float


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("overrides", nargs="*", default=["tokens=20_000_000"], help="of `sae train`")
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    samples = watch(arguments.overrides)
    late = [each for each in samples if each.tokens >= samples[-1].tokens / 4]
    tokens, megabytes = (np.array([each[column] for each in late]) for column in (1, 2))
    slope = float(np.polyfit(tokens / 1e6, megabytes, 1)[0])
    rows = [
        ("tokens trained on", f"{samples[-1].tokens:,} in {samples[-1].seconds:.0f} s"),
        ("resident at a quarter, MB", float(megabytes[: len(late) // 10].mean())),
        ("resident at the end, MB", float(megabytes[-len(late) // 10 :].mean())),
        ("highest, MB", max(each.megabytes for each in samples)),
        ("growth, MB per million tokens", slope),
    ]
    report = {"overrides": arguments.overrides, "slope": slope, "samples": samples}
    timing.report("memory", ("", ""), rows, report, arguments.json)
    if arguments.plot:
        _plot(samples, arguments.plot)


def watch(overrides: list[str]) -> list[Sample]:
    """The samples of one training, from its first line of the curve on."""
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "sae_cli", "train", *DEFAULTS, *overrides, f"runs_dir={runs}", "--quiet"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        started, samples = time.monotonic(), []
        while process.poll() is None:
            time.sleep(1)
            tokens, resident = _tokens(Path(runs)), _resident(process.pid)
            if tokens and resident:
                samples.append(Sample(time.monotonic() - started, tokens, resident))
        if process.returncode or not samples:
            raise SystemExit(process.returncode or "the run was over before it could be looked at")
    return samples


def _tokens(runs: Path) -> int:
    """How far the training curve has come."""
    for curve in runs.rglob("metrics.jsonl"):
        lines = curve.read_text().splitlines()
        if lines and lines[-1].endswith("}"):
            return json.loads(lines[-1])["tokens"]
    return 0


def _resident(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0)


def _plot(samples: list[Sample], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot([each.tokens / 1e6 for each in samples], [each.megabytes for each in samples])
    axes.set(xlabel="tokens trained on, millions", ylabel="resident memory, MB", ylim=(0, None), xlim=(0, None))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
