"""Threads that wait for work sleep, so that torch's and those of our loops do not take each other's cores."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "OPENBLAS_NUM_THREADS")
SHOW = """
import os, sae_cli
print("torch" in __import__("sys").modules, os.environ["OMP_WAIT_POLICY"], os.environ["OPENBLAS_NUM_THREADS"])
"""


def shown(**variables):
    environment = {name: value for name, value in os.environ.items() if name not in NAMES} | variables
    found = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    return found.stdout.split()


def test_it_is_said_before_torch_is_loaded():
    assert shown() == ["False", "passive", "1"]


def test_whoever_has_said_otherwise_is_left_alone():
    assert shown(OMP_WAIT_POLICY="active", OPENBLAS_NUM_THREADS="4") == ["False", "active", "4"]


SPIN = """
import sae_cli, time
import torch
import numpy as np
from sae_cli.kernels import loops

torch.set_num_threads(2)
x, W, b = torch.randn(256, 256), torch.randn(2048, 256), torch.randn(2048)
bits, fourth = np.empty((64, 256), np.uint16), np.empty(64, np.float32)

def both():
    torch.addmm(b, x, W.T)
    loops.round_to_bfloat16(x[:64].numpy(), bits, fourth)
    time.sleep(0.005)

for _ in range(3):
    both()
began = time.process_time()
for _ in range(100):
    both()
print(time.process_time() - began)
"""


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: nobody waits for another")
@pytest.mark.skipif(sys.platform != "linux", reason="libgomp's")
def test_a_pause_costs_no_time_of_the_processor():
    """100 pauses of 5 ms: threads that spin through them take 250 to 500 ms more than those that sleep."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "NUMBA_"))
    }
    asleep, spinning = (
        float(
            subprocess.run(
                [sys.executable, "-c", SPIN], env=environment | more, capture_output=True, text=True, check=True
            ).stdout
        )
        for more in ({}, {"GOMP_SPINCOUNT": "100000000"})
    )
    assert spinning > asleep + 0.2
