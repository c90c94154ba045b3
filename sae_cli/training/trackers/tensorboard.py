"""TensorBoard: event files, one an attempt, which it shows as one run (`tensorboard --logdir runs`)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from sae_cli.training.trackers.tracker import Tracked


class TensorBoard:
    """The event files of a run."""

    failures: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, about: Tracked) -> None:
        folder = about.folder / "tensorboard" / about.directory.name
        if not about.given:
            shutil.rmtree(folder, ignore_errors=True)  # of a run that was there before
        self.has = about.given
        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()  # so that a killed process leaves what it has been given

    def close(self, failed: bool) -> None:
        self._writer.close()
