"""A command of a pipeline, run by the process that stands by: as by itself, only sooner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMON = Path(__file__).parents[2] / "experiments" / "common.sh"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a fork after loading is safe on Linux only")
TRAIN = "train model=demo-xxs tokens=3000 dict_size=64 train.held_out_tokens=1000"


def environment(folder: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SAE_RUNS": str(folder / "runs")}


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"source {COMMON}\n{script}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder) | variables,
        timeout=120,
        check=False,
    )


def test_output_exit_codes_and_folder_are_those_of_the_command(tmp_path):
    commands = ["train nope=1", "train model=nope", f"{TRAIN} --quiet", "--version"]
    by_itself, standing_by = (
        shell("\n".join(f"{sae} {each} && code=0 || code=$?; echo $code" for each in commands), tmp_path)
        for sae in ("command sae", "sae")
    )
    assert by_itself.stdout.splitlines().count("2") == 2
    assert (standing_by.returncode, standing_by.stdout) == (by_itself.returncode, by_itself.stdout)
    assert "sae: error: unknown key nope" in standing_by.stderr
    assert (tmp_path / "runs" / "train").is_dir()


def test_standard_input_and_the_environment_are_those_of_who_asks(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    script = f"""
    export SAE_RUNS=$PWD/elsewhere/runs
    cd elsewhere
    {TRAIN.replace("train", "sae train", 1)} --quiet
    """
    ended = shell(script, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.strip()).is_relative_to(tmp_path / "elsewhere")


def test_loops_that_are_compiled_later_have_the_threads_that_were_asked_for(tmp_path):
    """numba looks at the environment again whenever it compiles; what the package has set there must still be there."""
    script = f"{TRAIN.replace('train', 'sae train', 1)} sae=topk k=4 train.kernel=sparse --quiet"
    ended = shell(script, tmp_path, OMP_NUM_THREADS="1", NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_who_asks_stops_the_command(number, code, tmp_path):
    script = f"""
    sae {TRAIN.replace("3000", "30_000_000")} & asking=$!
    until ls runs/train/*/*/*/manifest.json >/dev/null 2>&1; do sleep .1; done
    sleep 1
    kill -{int(number)} $(pgrep -P $asking)
    wait $asking || echo $?
    """
    assert shell(script, tmp_path).stdout.strip() == str(code)


def test_the_process_ends_with_the_pipeline(tmp_path):
    ended = shell("sae list --quiet; echo $standby_process", tmp_path)
    process = Path("/proc") / ended.stdout.split()[-1]
    until = time.monotonic() + 20
    while process.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not process.exists()
