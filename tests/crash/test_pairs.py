"""Two processes on one run at the same time: one does the work, the other is refused with a line, or finds it done; an
evaluation that another command needs is waited for instead."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sae_cli.artifacts.manifest import CHECKPOINTS, read_manifest

pytestmark = pytest.mark.crash

TRAIN = (
    "train data=synthetic data.d=16 data.n_features=64 tokens=3_200 dict_size=32 train.batch_size=64 "
    "train.shuffle_buffer=512 train.held_out_tokens=256 train.kernel=reference device=cpu"
)
RUNS = {
    "train": f"{TRAIN} checkpoint.every_seconds=0.05",
    "harvest": "harvest model=demo-xs layer=1 TEXT tokens=2_000 shard_tokens=500 device=cpu",
    "resumed train": f"{TRAIN} checkpoint.every_seconds=0.02",
    "eval": "eval RUN eval.tokens=2_000 features.tokens=20_000 device=cpu",
}
REFUSALS = ("works on this run; wait until it ends", "another process has just worked on this run")


@pytest.fixture(scope="module")
def trained(bench):
    folder = bench.folder("trained")
    bench.complete(folder, TRAIN)
    return folder


@pytest.fixture(scope="module")
def stopped(bench, runs_in):
    """A training that was killed after its first checkpoint."""
    folder = bench.folder("stopped")
    child = bench.start(folder, RUNS["resumed train"])
    while not any(name.startswith(CHECKPOINTS) for run in runs_in(folder) for name in read_manifest(run).files):
        assert bench.wait(child, 0.002) is None
    os.kill(child.pid, signal.SIGKILL)
    assert bench.wait(child).code == -signal.SIGKILL
    return folder


def _both(bench, folder, lines, delay):
    first = bench.start(folder, lines[0])
    assert bench.wait(first, delay) is None
    second = bench.start(folder, lines[1])
    return bench.wait(first), bench.wait(second)


@pytest.mark.parametrize("name", RUNS)
def test_one_works_and_one_is_refused(bench, trained, stopped, assert_same, runs_in, tell, how_many, name):
    like = {"eval": trained, "resumed train": stopped}.get(name)
    line = RUNS[name].replace("RUN", str(runs_in(trained)[0].relative_to(trained)))
    alone = bench.folder(f"pairs/{name}", like)
    seconds, rng = bench.complete(alone, line), random.Random(name)
    refused = found = 0
    for number in range(pairs := how_many("CRASH_PAIRS", 3)):
        folder = bench.folder(f"pairs/{name}-{number}", like)
        ends = _both(bench, folder, [line, line], rng.choice([0.0, rng.uniform(0, seconds / 2)]))
        assert sorted(each.code for each in ends) in ([0, 0], [0, 1]), ends
        errors = [text for each in ends for text in each.output.splitlines() if "error:" in text]
        assert all(any(says in text for says in REFUSALS) for text in errors), errors
        assert len(errors) == sum(each.code for each in ends)
        assert len(errors) or any("already finished" in each.output for each in ends), ends
        refused, found = refused + len(errors), found + (not errors)
        assert_same(alone, folder)
    tell(f"{pairs} pairs, all identical: {refused} refused, {found} found it done")


def test_an_evaluation_that_is_needed_is_waited_for(bench, trained, assert_same, runs_in, tell, how_many):
    run = str(runs_in(trained)[0].relative_to(trained))
    lines = [
        f"prune-high-freq {run} top_n={n} eval.tokens=2_000 features.tokens=400_000 device=cpu runs_dir=runs"
        for n in (3, 5)
    ]
    alone = bench.folder("prunes/alone", trained)
    for line in lines:
        bench.complete(alone, line)
    waited = 0
    for number in range(pairs := how_many("CRASH_PAIRS", 3)):
        folder = bench.folder(f"prunes/{number}", trained)
        ends = _both(bench, folder, lines, 0.0)
        assert [each.code for each in ends] == [0, 0], ends
        waited += any("waiting for process" in each.output for each in ends)
        assert_same(alone, folder)
    assert waited
    tell(f"{pairs} pairs of prunes, all identical: in {waited} one waited for the other's evaluation")


def test_of_a_crowd_one_works(bench, tell, how_many):
    crowds = 10 * how_many("CRASH_PAIRS", 3)
    command = [sys.executable, Path(__file__).with_name("crowd.py"), bench.folder("crowds"), str(crowds)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    ends = json.loads(done.stdout)
    assert len(ends) == crowds
    assert all(crowd.count("worked") == 1 and set(crowd) <= {"worked", "found", "refused"} for crowd in ends), ends
    counts = {word: sum(crowd.count(word) for crowd in ends) for word in ("refused", "found")}
    tell(f"{crowds} crowds of {len(ends[0])}: one worked, {counts['refused']} refused, {counts['found']} found it done")
