"""A run that is killed at any moment, as often as it may be, ends as the run that is left alone: bit for bit."""

import json
import random
import signal

import pytest

from sae_cli.artifacts.manifest import read_manifest

pytestmark = pytest.mark.crash

SYNTHETIC = "train data=synthetic data.d=16 data.n_features=64"
LIVE = "train model=demo-xs layer=1 TEXT"
SMALL = (
    "dict_size=64 train.batch_size=64 train.shuffle_buffer=2048 train.held_out_tokens=512 train.log_every=10 "
    "train.held_out_every=40 train.density_windows=8 train.dead_after=2000 train.save_at=[30,90] device=cpu"
)
REFERENCE = "train.kernel=reference"
RESAMPLED = "resample.at=[40,60] resample.inputs=512 resample.rewarm_steps=10"
LOCAL = "resample.rule=local resample.every=25"
HARVEST = "harvest model=demo-xs layer=1 TEXT device=cpu"
OFTEN, ALWAYS = "checkpoint.every_seconds=0.05", "checkpoint.every_seconds=0"

RUNS = {
    "relu": f"{SYNTHETIC} {SMALL} {REFERENCE} {RESAMPLED} {OFTEN} tokens=8_000",
    "relu, local": f"{SYNTHETIC} {SMALL} {REFERENCE} {RESAMPLED} {LOCAL} {OFTEN} tokens=8_000",
    "gated": f"{SYNTHETIC} {SMALL} {REFERENCE} {RESAMPLED} {ALWAYS} tokens=6_400 sae=gated",
    "jump_relu": f"{SYNTHETIC} {SMALL} {REFERENCE} {RESAMPLED} {OFTEN} tokens=8_000 sae=jump_relu",
    "topk, live": f"{LIVE} {SMALL} {REFERENCE} {OFTEN} tokens=8_000 sae=topk k=8",
    "batch_topk, live, kernels": f"{LIVE} {SMALL} {OFTEN} tokens=8_000 sae=batch_topk k=8",
    "matryoshka, harvest": f"{LIVE} {SMALL} {REFERENCE} {ALWAYS} tokens=6_400 sae=matryoshka k=8",
    "relu, harvest": f"{LIVE} {SMALL} {REFERENCE} {RESAMPLED} {OFTEN} tokens=8_000",
    "harvest": f"{HARVEST} tokens=20_000 shard_tokens=1_500",
    "harvest, one shard a pass": f"{HARVEST} tokens=12_000 shard_tokens=630 dtype=float16 model_rows=7",
    "shared": f"{LIVE} {SMALL} {REFERENCE} {RESAMPLED} {OFTEN} tokens=25_600 l1=0.3,1,3 -m hydra/launcher=shared",
    "sweep": f"{SYNTHETIC} {SMALL} {REFERENCE} {OFTEN} tokens=6_400 l1=0.3,1 -m",
}


@pytest.fixture(scope="module")
def harvested(bench):
    folder = bench.folder("harvested")
    bench.complete(folder, f"{HARVEST} tokens=10_000 shard_tokens=3_000")
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_killed(bench, interrupted, harvested, assert_same, tell, how_many, name):
    stops, runs = _stopped(bench, interrupted, harvested, assert_same, name, how_many("CRASH_KILLS", 2))
    assert all(ended.code == -signal.SIGKILL for _, ended in stops)
    tell(f"{len(stops)} kills of {runs} runs, all identical: {_counted(stops)}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", ["relu", "topk, live", "relu, harvest", "harvest", "shared"])
def test_asked_to_stop(bench, interrupted, harvested, assert_same, runs_in, tell, how_many, name, number):
    n, line = max(1, how_many("CRASH_KILLS", 2) // 2), RUNS[name].replace("train.log_every=10", "train.log_every=1")

    def look(folder, ended):
        if "stopped after a whole step" in ended.output:
            for run in runs_in(folder):
                _check_very_step(run)

    stops, runs = _stopped(bench, interrupted, harvested, assert_same, name, n, number, line=line, look=look)
    for where, ended in stops:
        assert ended.code == 128 + number or (where == "at the end of the run" and ended.code == -number), ended
    tell(f"{len(stops)} times {number.name} to {runs} runs, all identical: {_counted(stops)}")


@pytest.mark.parametrize("name", ["relu", "harvest"])
def test_asked_to_stop_twice(bench, interrupted, harvested, assert_same, tell, how_many, name):
    n, number = max(1, how_many("CRASH_KILLS", 2) // 2), signal.SIGTERM
    stops, runs = _stopped(bench, interrupted, harvested, assert_same, name, n, number, again=0.001)
    assert all(ended.code in (128 + number, -number) for _, ended in stops)
    tell(f"{len(stops)} times two SIGTERM to {runs} runs, all identical: {_counted(stops)}")


def _stopped(
    bench, interrupted, harvested, assert_same, name, n, number=signal.SIGKILL, *, line=None, again=None, look=None
):
    """Stop runs until `n` stops have been made, and compare each run with one that was left alone."""
    line, like = line or RUNS[name], harvested if name.endswith(", harvest") else None
    place, rng = f"{name.replace(', ', '-').replace(' ', '_')}-{number.name}", random.Random(f"{name} {number}")
    alone = bench.folder(f"{place}/alone", like)
    span = bench.complete(alone, line)
    stops, runs = [], 0
    while len(stops) < n:
        runs += 1
        folder = bench.folder(f"{place}/{runs}", like)
        stops += interrupted.until_complete(folder, line, rng, span, number, again, look)
        assert_same(alone, folder)
    return stops, runs


def _check_very_step(run):
    """A training run that is not finished has a checkpoint of the last step that it has taken."""
    manifest = read_manifest(run)
    if manifest.command == "train" and manifest.status != "complete":
        curve = run / "metrics.jsonl"
        step = json.loads(curve.read_text().splitlines()[-1])["step"] if curve.exists() else 0
        assert f"checkpoint/{step:08d}/training.safetensors" in manifest.files


def _counted(stops):
    where = [where for where, _ in stops]
    return ", ".join(f"{where.count(each)} {each}" for each in sorted(set(where)))
