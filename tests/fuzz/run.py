"""Mutated files through every reader: python tests/fuzz/run.py [--inputs 20000] [--seed 0]

Each input must end in a value or in an error of one line, soon, and in little memory; and with hashes compared, a value
that is not the original's is a failure. `coverage_guided.py` chooses its inputs by what code they reach.
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import random
import resource
import shutil
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from mutations import mutate, refit, rewrite
from subjects import SUBJECTS, Subject, forge, make_runs, same

from sae_cli.artifacts.manifest import MANIFEST, seal, sealed
from sae_cli.errors import SaeError

SECONDS, MEBIBYTES = 5.0, 64
"""What one input may take: time, and memory beyond twice the file."""


class Bench:
    """The runs, whose files are mutated one at a time and put back.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        make_runs(root)
        self.root = root
        self.originals = {name: (self._directory(s) / s.file).read_bytes() for name, s in SUBJECTS.items()}
        self.manifests = {name: (self._directory(s) / MANIFEST).read_bytes() for name, s in SUBJECTS.items()}
        self.values = {name: s.read(self._directory(s), True) for name, s in SUBJECTS.items()}
        self.outcomes: collections.Counter[tuple[str, str]] = collections.Counter()
        self.slowest = 0.0

    def damage(self, name: str, content: bytes) -> None:
        """The file alone is another: the original value, or one line."""
        subject = SUBJECTS[name]
        value = self._attempt(name, subject, content, verify=True)
        if subject.checked and value is not None and not same(value, self.values[name]):
            raise AssertionError(f"{name}: a wrong value was accepted: {value}")

    def forgery(self, name: str, content: bytes) -> None:
        """The manifest says that the file was written so: any value, or one line."""
        subject = SUBJECTS[name]
        if subject.file == MANIFEST:
            content = _resealed(content)
        else:
            forge(self._directory(subject), subject.file, content)
        self._attempt(name, subject, content, verify=False)

    def _attempt(self, name: str, subject: Subject, content: bytes, verify: bool) -> Any:
        directory = self._directory(subject)
        (directory / subject.file).write_bytes(content)
        before, started, value = peak(), time.perf_counter(), None
        try:
            value = subject.read(directory, verify)
            self.outcomes[name, "read"] += 1
        except SaeError as error:
            self.outcomes[name, "refused"] += 1
            if not str(error).isprintable() or len(str(error)) > 2000:
                raise AssertionError(f"{name}: not one line: {str(error)!r}") from error
        finally:
            (directory / subject.file).write_bytes(self.originals[name])
            (directory / MANIFEST).write_bytes(self.manifests[name])
        seconds, grown = time.perf_counter() - started, peak() - before
        self.slowest = max(self.slowest, seconds)
        if seconds > SECONDS or grown > 2 * len(content) + MEBIBYTES * 2**20:
            raise AssertionError(f"{name}: {seconds:.1f} s and {grown:,} bytes for a file of {len(content):,}")
        return value

    def _directory(self, subject: Subject) -> Path:
        return self.root / subject.run


def mutated(bench: Bench, rng: random.Random, name: str) -> None:
    """One input: damage, or forgery of damage or of something else, in about equal parts."""
    original, kind = bench.originals[name], rng.randrange(3)
    if kind == 2 and not name.startswith("config"):
        return bench.forgery(name, rewrite(original, rng))
    content = mutate(original, rng)
    if kind == 0:
        return bench.damage(name, content)
    return bench.forgery(name, refit(content) if SUBJECTS[name].file.endswith(".safetensors") else content)


def _resealed(content: bytes) -> bytes:
    """A manifest whose last entry is the hash of what is before it again."""
    try:
        entries = json.loads(content)
        del entries["sha256"]
        return seal(entries)
    except (ValueError, KeyError, TypeError, RecursionError):
        return sealed(content.rpartition(b',\n  "sha256": ')[0])


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def with_seed(bench: Bench, inputs: int, seed: int) -> None:
    """So many inputs, the readers in turn."""
    names = list(SUBJECTS)
    for number in range(inputs):
        mutated(bench, random.Random(f"{seed} {number}"), names[number % len(names)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sae-fuzz-"))
    bench, started, before = Bench(folder / "runs"), time.monotonic(), peak()
    warnings.simplefilter("error")
    try:
        with_seed(bench, asked.inputs, asked.seed)
    finally:
        shutil.rmtree(folder)
        report(bench, time.monotonic() - started, peak() - before)


def report(bench: Bench, seconds: float, grown: int) -> None:
    """How many inputs each reader had and how they ended."""
    out = io.StringIO()
    for name in SUBJECTS:
        read, refused = bench.outcomes[name, "read"], bench.outcomes[name, "refused"]
        out.write(f"{name:28} {read + refused:7,} inputs  {read:7,} read  {refused:7,} refused\n")
    total = sum(bench.outcomes.values())
    out.write(f"{total:,} inputs in {seconds:.0f} s, the slowest {bench.slowest:.2f} s; ")
    out.write(f"memory grew by {grown:,} bytes\n")
    print(out.getvalue(), end="", flush=True)


if __name__ == "__main__":
    main()
