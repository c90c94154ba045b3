"""Whatever call fails on the way to the disk, or when the disk is full: one line, exit code 1, nothing damaged, and the
same command, once the disk is well again, ends with the very same artifacts."""

import errno
import json
import random
import subprocess
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import pytest

from sae_cli.activations.shuffle import ShuffleBuffer, ShufflePlan
from sae_cli.artifacts.files import check_hash, check_size
from sae_cli.artifacts.manifest import read_manifest
from sae_cli.artifacts.stored_run import UnfinishedRun, read_run
from sae_cli.training.checkpoint import read_checkpoint

pytestmark = pytest.mark.crash

EIO_ONCE, ENOSPC_FROM_THEN_ON = (errno.EIO, 0), (errno.ENOSPC, 1)


class Command(NamedTuple):
    """A command, and the one that makes what it reads."""

    line: str
    before: str = ""


TRAIN = (
    "train data=synthetic data.d=8 data.n_features=16 tokens=192 dict_size=16 train.batch_size=64 "
    "train.shuffle_buffer=64 train.held_out_tokens=64 train.log_every=1 train.density_windows=2 "
    "train.kernel=reference device=cpu --quiet"
)
CUT = ShufflePlan(tokens=192, size=64, batch_size=64, seed=0)
COMMANDS = {
    "train": Command(f"{TRAIN} train.save_at=[2] checkpoint.every_seconds=0"),
    "shared": Command(f"{TRAIN} checkpoint.every_seconds=0 l1=0.3,1 -m hydra/launcher=shared"),
    "harvest": Command("harvest model=demo-xs layer=1 TEXT tokens=250 shard_tokens=126 device=cpu --quiet"),
    "eval": Command("eval RUN eval.tokens=256 features.tokens=512 device=cpu --quiet", TRAIN),
    "prune": Command(
        "prune-high-freq RUN top_n=3 eval.tokens=256 features.tokens=512 device=cpu --quiet runs_dir=runs", TRAIN
    ),
}


@pytest.mark.parametrize("fault", [EIO_ONCE, ENOSPC_FROM_THEN_ON], ids=["EIO-once", "ENOSPC-from-then-on"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_call_fails(bench, assert_same, tell, how_many, runs_in, name, fault):
    if bench.shim is None:
        pytest.skip("needs Linux and cc")
    place, line, like = f"faults/{name}-{fault[0]}", COMMANDS[name].line, None
    if before := COMMANDS[name].before:
        like = bench.folder(f"{place}/before")
        bench.complete(like, before)
        line = line.replace("RUN", str(runs_in(like)[0].relative_to(like)))
    clean = bench.folder(f"{place}/clean", like)
    ended, calls, _ = _with_fault(bench, clean, line, (0, 0, 0))
    assert ended.code == 0 and calls > 20, ended.output
    numbers = sorted(random.Random(name).sample(range(1, calls + 1), min(calls, how_many("CRASH_FAULTS", 5))))
    failed = 0
    for n in numbers:
        folder = bench.folder(f"{place}/{n}", like)
        ended, _, seen = _with_fault(bench, folder, line, (n, *fault))
        about = f"call {n} of {calls}, {seen}: {ended}"
        assert seen and ended.code in (0, 1), about
        if ended.code:
            failed += 1
            assert _is_one_line(ended.output, sweep=name == "shared"), about
        for run in runs_in(folder):
            _check_sound(run)
        bench.complete(folder, line)
        assert_same(clean, folder)
    tell(f"{len(numbers)} of {calls} calls failed with {errno.errorcode[fault[0]]}: {failed} ended the command")


def _with_fault(bench, folder, line, fault):
    """How it ended, the number of calls below the folder, and the first that failed."""
    child = bench.start(folder, line, fault)
    ended = bench.wait(child)
    calls, seen = json.loads(child.log.with_name(f"{child.log.name}.faults").read_text())
    return ended, calls, seen


def _is_one_line(output, sweep):
    """A sweep has a line for each job too, and names those that are done."""
    lines = [line for line in output.splitlines() if not (sweep and line.startswith("runs/"))]
    return lines and all(line.startswith("sae: error: ") for line in lines) and (sweep or len(lines) == 1)


def _check_sound(run):
    """What the manifest lists is there; of a log at least what it lists. A checkpoint can be read."""
    manifest = read_manifest(run)
    if manifest.status == "complete":
        return read_run(run).check_files(verify=True)
    for name, record in manifest.files.items():
        if name == "metrics.jsonl":
            assert (run / name).stat().st_size >= record.bytes
        else:
            check_size(run / name, record)
            check_hash(run / name, record)
    if manifest.command == "train" and (saved := read_checkpoint(UnfinishedRun(run, manifest), verify=True)):
        assert saved.batches.resume(partial(ShuffleBuffer, iter(()), CUT)).drawn == saved.batches.drawn
    return None


@contextmanager
def full_disk(folder, size):
    """A file system of its own in a folder."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


LARGER = {
    "train": "train data=synthetic data.d=64 data.n_features=64 tokens=2_048 dict_size=256 train.batch_size=64 "
    "train.shuffle_buffer=1024 train.held_out_tokens=64 train.kernel=reference device=cpu checkpoint.every_seconds=0 "
    "train.save_at=[3,5,9,17] --quiet",
    "harvest": "harvest model=demo-xs layer=1 TEXT tokens=4_000 shard_tokens=500 device=cpu --quiet",
}


@pytest.mark.parametrize("name", LARGER)
def test_the_disk_is_full(bench, assert_same, tell, how_many, runs_in, name):
    clean = bench.folder(f"disk/{name}")
    bench.complete(clean, LARGER[name])
    needed = sum(path.stat().st_size for path in clean.rglob("*") if path.is_file()) // 1024
    shares = (0.02, 0.3, 0.6, 0.8, 0.9, 0.97, 1.03, 1.1, 1.2, 1.3, 1.5, 1.8)
    step = max(1, len(shares) * 2 // how_many("CRASH_FAULTS", 5))
    failed, sizes = 0, [max(4, int(share * needed)) for share in shares[::step]]
    for size in sizes:
        with full_disk(bench.root / "disk" / f"{name}-{size}", size) as folder:
            ended = bench.run(folder, LARGER[name])
            assert ended.code in (0, 1), ended
            if ended.code:
                failed += 1
                assert _is_one_line(ended.output, sweep=False), ended
                assert "No space left on device" in ended.output or "of free disk space" in ended.output, ended
            for run in runs_in(folder):
                _check_sound(run)
            subprocess.run(["mount", "-o", f"remount,size={20 * needed}k", folder], check=True)
            bench.complete(folder, LARGER[name])
            assert_same(clean, folder)
    assert failed
    tell(f"{len(sizes)} disks of {min(sizes)} to {max(sizes)} kB for {needed} kB of artifacts, {failed} too small")
