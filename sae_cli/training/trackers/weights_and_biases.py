"""Weights & Biases: a run whose id is a function of the run directory, so that what goes on here goes on there.

Online, the service says how far it has come. Offline nobody does, and what a killed process has left may lack its last
lines: each attempt writes the whole curve, in place of what earlier ones have left to be sent.

Project, entity, mode and keys come from its own settings (`WANDB_PROJECT`, `WANDB_MODE=offline`, `wandb login`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import wandb
from wandb.errors import Error, UsageError

from sae_cli.errors import RequestError
from sae_cli.terminal import console
from sae_cli.training.trackers.tracker import Tracked

PROJECT = "sae"


class WeightsAndBiases:
    """A run there.

    Raises:
        RequestError: nobody is logged in, or it cannot be reached.
    """

    failures: tuple[type[Exception], ...] = (Error, OSError)

    def __init__(self, about: Tracked) -> None:
        about.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=run_id(about),
                name=about.directory.name,
                config=dict(about.settings),
                dir=str(about.folder),
                resume="allow" if about.given else None,
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True),
            )
        except (Error, UsageError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise RequestError(f"tracker=wandb: {reason}; run wandb login, or set WANDB_MODE=offline") from error
        self.has = max(0, self._run.starting_step - 1)
        if self._run.offline:
            self._replace_earlier(about)
        where = f"wandb sync {self._run.settings.sync_dir}" if self._run.offline else self._run.url
        console.log(f"wandb: {where}")

    def _replace_earlier(self, about: Tracked) -> None:
        here = Path(self._run.settings.sync_dir).resolve()
        for folder in (about.folder / "wandb").glob(f"offline-run-*-{self._run.id}*"):
            if folder.resolve() != here:
                shutil.rmtree(folder, ignore_errors=True)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step, commit=True)

    def close(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def run_id(about: Tracked) -> str:
    """The same for all attempts at a run; another one where a run was begun anew in its directory."""
    return hashlib.sha256(f"{about.directory.resolve()}\n{about.beginning}".encode()).hexdigest()[:16]
