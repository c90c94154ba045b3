"""The GPU kernels compiled for GPUs that are not here: they fit, and nothing that should be in registers is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

SCRIPT = Path(__file__).with_name("cross_compile.py")
SHARED = {"sm_80": 166_912, "sm_90": 232_448, "sm_120": 101_376, "gfx942": 65_536, "gfx90a": 65_536}
"""Bytes of shared memory that a program may have."""
KERNELS = {
    *("screen", "block_maxima", "row_limits", "add_to_histogram", "batch_limit", "places", "mark_largest"),
    *("products", "residual", "outer_sums", "column_sums", "adam"),
}
SHORT = [("sm_90", 2304), ("gfx942", 2304)]
ALL = [(target, width) for target in SHARED for width in (512, 2304, 9216) if (target, width) not in SHORT]


def compile_all(target, width, cache):
    environment = {**os.environ, "TRITON_CACHE_DIR": str(cache)}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, str(SCRIPT), target, str(width)]
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize(("target", "width"), [*SHORT, *(pytest.param(*each, marks=pytest.mark.slow) for each in ALL)])
def test_every_kernel_fits_and_spills_nothing(target, width, tmp_path):
    found = compile_all(target, width, tmp_path)
    assert {each["kernel"] for each in found} == KERNELS
    for each in found:
        assert each["shared"] <= SHARED[target], each
        assert each["spilled"] == 0, each
