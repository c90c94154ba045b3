"""Runs a task under `hydra.main`, in the words of a script of Hydra's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hydra

from sae_cli.cli.request import Request
from sae_cli.config.compose import HYDRA_VERSION_BASE
from sae_cli.config.location import conf_dir
from sae_cli.config.store import register


def launch(request: Request, task: Callable[[object], None], arguments: Sequence[str]) -> None:
    """Run `task` under `hydra.main`, as if these arguments had been typed at a script of Hydra's."""
    register()
    program = hydra.main(version_base=HYDRA_VERSION_BASE, config_path=str(conf_dir()), config_name=request.command)(
        task
    )
    config_dir = [] if request.config_dir is None else ["--config-dir", str(request.config_dir)]
    with _command_line(["sae", *arguments, *config_dir]):
        program()


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and this variable tells it to raise errors instead of printing them."""
    argv, full_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = arguments, "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = full_error
