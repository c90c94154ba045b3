"""Shapes in annotations are checked in the tests, and only there; GPU kernels run without a GPU too."""

import ctypes
import gc
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each of them
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

PACKAGE = Path(__file__).parents[1] / "sae_cli"
# From the functions as they are written.
COMPILED = {f"sae_cli.kernels.{name}" for name in ("loops", "context_loops", "triton_loops", "triton_select")}
# Where the shapes are; to check the others as well would double the time of all tests.
WITH_SHAPES = ("dictionaries", "kernels", "metrics", "training")

modules = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    for folder in WITH_SHAPES
    for file in (PACKAGE / folder).rglob("[!_]*.py")
}
# An int is accepted where a float is asked for, as type checkers do.
install_import_hook(sorted(modules - COMPILED), "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

from sae_cli.terminal import console  # noqa: E402 (after the hook)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """A test draws the same numbers whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _output_as_at_first() -> Iterator[None]:
    """A command with `--quiet` does not silence the tests after it, and loggers keep no stream of this test."""
    root, handlers = logging.getLogger(), logging.getLogger().handlers[:]
    yield
    console.configure()
    root.handlers = [each for each in root.handlers if each in handlers]


@pytest.fixture
def unprivileged() -> Callable[..., Any]:
    """Calls a function as a user whom permissions hold for: where the tests are run by root, in a thread that gives up
    the right to pass over them."""
    if os.geteuid() != 0:
        return lambda function, *args: function(*args)
    if not hasattr(libc := ctypes.CDLL(None), "capset"):
        pytest.skip("this system has no capabilities that root could give up")

    def call(function: Callable[..., Any], *args: Any) -> Any:
        with ThreadPoolExecutor(1, initializer=_give_up_permissions, initargs=(libc,)) as thread:
            return thread.submit(function, *args).result()

    return call


def _give_up_permissions(libc: ctypes.CDLL) -> None:
    """Without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, in this thread and those that it starts (capset(2))."""
    header, held = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    for word in range(3):  # effective, permitted, inheritable
        held[word] &= ~0b110
    assert libc.capset(header, held) == 0
