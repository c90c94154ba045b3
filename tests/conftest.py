"""Shapes in annotations are checked in the tests, and only there; GPU kernels run without a GPU too."""

import gc
import os
from pathlib import Path

import torch
from jaxtyping import install_import_hook

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

PACKAGE = Path(__file__).parents[1] / "sae_cli"
# From the functions as they are written.
COMPILED = {f"sae_cli.kernels.{name}" for name in ("loops", "context_loops", "triton_loops")}

modules = {".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in PACKAGE.rglob("[!_]*.py")}
# An int is accepted where a float is asked for, as type checkers do.
install_import_hook(sorted(modules - COMPILED), "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()
