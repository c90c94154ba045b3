"""Every reader, with inputs chosen by the code that they reach: python tests/fuzz/coverage_guided.py [INPUTS] [SEED]

Needs atheris: pip install 'sae-cli[fuzz]'. What is asked of an input is in `run.py`.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import atheris  # pyright: ignore[reportMissingModuleSource] (only where it is used)

import sae_cli.kernels.loops  # noqa: F401  before the others: numba compiles these, so they cannot be traced

with atheris.instrument_imports(include=["sae_cli", "json", "yaml"]):  # pyright: ignore[reportAttributeAccessIssue]
    from run import Bench, peak, report
    from subjects import SUBJECTS

from mutations import mutate

NAMES = list(SUBJECTS)
MAX_BYTES = 32_768


class Fuzzed:
    """Counts inputs, because not everything that the fuzzer tries is one; ends the process after the last."""

    def __init__(self, folder: Path, inputs: int) -> None:
        self.folder, self.left = folder, inputs
        self.bench = Bench(folder / "runs")
        self.started, self.before = time.monotonic(), peak()

    def __call__(self, data: bytes) -> None:
        """The first byte says which reader, the second whether hashes are forged to fit."""
        if len(data) >= 2 and self.left:
            attempt = self.bench.forgery if data[1] & 1 else self.bench.damage
            attempt(NAMES[data[0] % len(NAMES)], data[2:])
            self.left -= 1
            if not self.left:
                report(self.bench, time.monotonic() - self.started, peak() - self.before)
                shutil.rmtree(self.folder)
                os._exit(0)  # the fuzzer would look for its corpus again

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """The fuzzer's own mutations, those that know the formats, and now and then an original to begin from."""
        rng = random.Random(seed)
        if len(data) < 2 or rng.random() < 0.25:
            number = rng.randrange(len(NAMES))
            data = bytes((number, rng.randrange(2))) + self.bench.originals[NAMES[number]]
        elif rng.random() < 0.5:
            return atheris.Mutate(data, max_size)
        return (data[:2] + mutate(data[2:], rng))[:max_size]


def main() -> None:
    inputs, seed = (int(given) for given in (*sys.argv[1:], *("20000", "1")[len(sys.argv) - 1 :]))
    folder = Path(tempfile.mkdtemp(prefix="sae-fuzz-"))
    fuzzed = Fuzzed(folder, inputs)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, name in enumerate(NAMES):
        for forged in (0, 1):
            (corpus / f"{number}-{forged}").write_bytes(bytes((number, forged)) + fuzzed.bench.originals[name])
    flags = ["-runs=-1", f"-seed={seed}", "-timeout=10", "-rss_limit_mb=4096", f"-max_len={MAX_BYTES}"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], fuzzed, custom_mutator=fuzzed.mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
