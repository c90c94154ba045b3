"""Measuring several things against each other: interleaved, medians and spread, and where it was done."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PEERS = ("sae-lens", "dictionary-learning", "eai-sparsify")


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one entry a round."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        if len(self.seconds) < 4:
            return (max(self.seconds) - min(self.seconds)) / 2 / self.median
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median


def interleave(
    contenders: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 2,
    device: torch.device | None = None,
) -> dict[str, Timing]:
    """Call each contender once a round, so that what else the machine does meets all of them alike; what it has
    launched on a GPU is waited for."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warmup + rounds):
        for name, call in contenders.items():
            wait_for(device)
            started = time.perf_counter()
            call()
            wait_for(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return {name: Timing(each) for name, each in seconds.items()}


def wait_for(device: torch.device | None) -> None:
    """Until a GPU has done what was launched there."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def ratio(slow: Timing, fast: Timing) -> float:
    """The median over rounds of how many times longer `slow` takes."""
    return statistics.median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def machine() -> dict[str, Any]:
    """What a figure depends on."""
    return {
        "date": date.today().isoformat(),
        "cpu": _cpu_model(),
        "bfloat16 in hardware": any(key for key in bfloat16() if key),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **_peer_versions(),
    }


def bfloat16() -> list[bool]:
    """Which kinds of bfloat16 products this machine has in hardware."""
    found = torch.cpu.get_capabilities()
    return [bool(found.get(key)) for key in ("avx512_bf16", "amx_bf16", "arm_bf16")]


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _peer_versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--rounds", type=int, default=7, help="measurements of each contender")
    made.add_argument("--json", type=Path, help="write the figures to this file too")
    return made


def report(
    name: str, header: Iterable[str], rows: Iterable[Iterable[Any]], figures: Mapping[str, Any], path: Path | None
) -> None:
    """Print a table on stderr and a JSON document on stdout; the document goes to `path` too."""
    lines = [list(map(_shown, row)) for row in [header, *rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)), file=sys.stderr)
    document = json.dumps({"benchmark": name, "machine": machine(), **figures}, indent=2)
    print(document)
    if path:
        path.write_text(document + "\n")


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
