"""Steps, a whole run, an evaluation and a harvest on a GPU, each in a process of its own; writes one file of results.

    sh benchmarks/gpu.sh --json results.json
    sh benchmarks/gpu.sh model=hf model.path=google/gemma-2-2b layer=12       # the three on another model

A step is measured against its floor, one bfloat16 encoder product and one pass over the parameters and Adam's state,
and against SAELens, dictionary_learning and sparsify where they are installed (`train_step.py`); a harvest against the
bare forward pass (`harvest.py`). What cannot be measured, for want of memory say, is written down with its reason.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timing
import torch

HERE = Path(__file__).parent
STEPS = [(4096, d, f) for d in (512, 768, 2304) for f in (16_384, 65_536, 262_144, 1_048_576)]
SMALL_STEPS = [(256, 64, 512), (256, 64, 2048)]
_TOO_LONG = 1800  # seconds of one measurement


@dataclass(frozen=True)
class Measurement:
    """One process.

    Attributes:
        name: what it measures.
        command: its arguments.
        result: the file of JSON that it leaves; None where it prints that.
    """

    name: str
    command: list[str]
    result: Path | None = None


def measurements(arguments: argparse.Namespace, folder: Path) -> Iterator[Measurement]:
    """All of them, in order."""
    device, small = arguments.device, arguments.small
    for number, shape in enumerate(SMALL_STEPS if small else STEPS):
        file = folder / f"step{number}.json"
        command = ["train_step.py", "--device", device, "--shape", ",".join(map(str, shape)), "--json", str(file)]
        command += ["--rounds", "2" if small else "7", "--between", "2" if small else "20"]
        command += ["--k", "8"] if small else []
        yield Measurement(f"step {shape}", _python(HERE / command[0], *command[1:]), file)
    run, (features, tokens) = folder / "runs" / "whole", (512, 20_000) if small else (32_768, 20_000_000)
    given = [f"device={device}", f"runs_dir={folder / 'runs'}", *arguments.overrides]
    settings = [f"dict_size={features}", f"tokens={tokens}", f"train.batch_size={256 if small else 4096}"]
    yield Measurement("whole run, live activations", _sae("train", *given, *settings, f"name={run.name}"))
    yield Measurement("evaluation", _sae("eval", str(run), f"device={device}", f"runs_dir={folder / 'runs'}"))
    file, tokens = folder / "harvest.json", 20_000 if small else 4_000_000
    rest = ["--tokens", str(tokens), "--rounds", "1" if small else "3", "--json", str(file), *arguments.overrides]
    yield Measurement("harvest", _python(HERE / "harvest.py", "--device", device, *rest), file)


def _python(*command: object) -> list[str]:
    return [sys.executable, *map(str, command)]


def _sae(*command: str) -> list[str]:
    return [sys.executable, "-m", "sae_cli", *command, "--json", "--quiet"]


def measured(each: Measurement) -> dict[str, Any]:
    """What a process has found, how long it took, and why if it has found nothing."""
    started = time.perf_counter()
    try:
        ended = subprocess.run(each.command, capture_output=True, text=True, timeout=_TOO_LONG, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {_TOO_LONG} seconds"}
    seconds = time.perf_counter() - started
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if line.strip()]
        return {"seconds": seconds, "failed": lines[-1] if lines else f"exit {ended.returncode}"}
    found = json.loads(each.result.read_text() if each.result else ended.stdout)
    return {"seconds": seconds, **(found if "benchmark" in found else _of_run(found))}


def _of_run(document: Mapping[str, Any]) -> dict[str, Any]:
    """Of a command's JSON document what says how fast it was."""
    facts = document.get("facts", {})
    known = {key: facts[key] for key in ("tokens", "seconds", "steps") if key in facts}
    if {"tokens", "seconds"} <= known.keys():
        known["tokens/s"] = known["tokens"] / known["seconds"]
    return {"run": known, "figures": document.get("figures", {})}


def summary(results: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Any, ...]]:
    """Lines of a table."""
    for name, found in results.items():
        if "failed" in found:
            yield name, "", found["failed"][:80], ""
        elif found.get("benchmark") == "train_step":
            for each in found["figures"]:
                if "name" in each:
                    yield name, each["kind"], each["name"], 1000 * each["seconds"], f"{each['times ours']:.2f}"
        elif found.get("benchmark") == "harvest":
            yield name, "", "share of the bare forward pass", found["share"]
        elif "tokens/s" in found.get("run", {}):
            yield name, "", "tokens/s", found["run"]["tokens/s"]
        else:
            yield name, "", "seconds", found["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="of sae train and harvest: model=… hook=… layer=…")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="small sizes, to see that everything runs")
    parser.add_argument("--dry", action="store_true", help="print the commands instead")
    parser.add_argument("--json", type=Path, help="file of results; by default results/DATE-GPU.json beside this")
    arguments = parser.parse_args()
    if arguments.device == "cpu" and not (arguments.small or arguments.dry):
        parser.error("no GPU was found: --small runs small sizes on the CPU, --dry prints the commands")
    with tempfile.TemporaryDirectory(prefix="sae-gpu-") as folder:
        chosen = list(measurements(arguments, Path(folder)))
        if arguments.dry:
            print("\n".join(shlex.join(each.command) for each in chosen))
            return
        results: dict[str, dict[str, Any]] = {}
        for each in chosen:
            print(f"{each.name} …", file=sys.stderr, flush=True)
            results[each.name] = measured(each)
    found = timing.machine()
    place = HERE / "results" / f"{found['date']}-{(found['gpu'] or 'cpu').replace(' ', '-')}.json"
    rows = [(*row, *[""] * (5 - len(row))) for row in summary(results)]
    header = ("what", "kind", "who", "ms, or what it says", "times ours")
    timing.report("gpu", header, rows, {"results": results}, arguments.json or place)


if __name__ == "__main__":
    main()
