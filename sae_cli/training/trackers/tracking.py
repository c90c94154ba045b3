"""Each tracker gets each line of a training curve once, whichever attempt at the run made it.

<folder of the run>/.trackers/<run>.json             which steps each tracker has been given
<folder of the run>/.trackers/tensorboard/<run>/     event files
<folder of the run>/.trackers/wandb/                 what Weights & Biases keeps
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from sae_cli.artifacts.files import write_json
from sae_cli.artifacts.run_directory import LogLine
from sae_cli.documents import Facts
from sae_cli.errors import RequestError
from sae_cli.terminal import console
from sae_cli.training.trackers.tracker import FOLDER, Tracked, Tracker


@dataclass
class _Sent:
    """What trackers have been given: the last step of each."""

    beginning: int = 0
    steps: dict[str, int] = field(default_factory=dict)


class Tracking:
    """The trackers of a run; a context manager that closes them.

    Args:
        names: of trackers.
        directory: of the run.
        settings: that its result depends on, flattened.
        anew: the run begins with nothing of an earlier attempt: it is another one than that.
    """

    def __init__(self, names: Sequence[str], directory: Path, settings: Facts, anew: bool) -> None:
        self._file = directory.parent / FOLDER / f"{directory.name}.json"
        self._trackers: dict[str, Tracker] = {}
        if not names:
            return
        self._sent = _read(self._file)
        if anew or not self._sent.beginning:
            self._sent = _Sent(self._sent.beginning + 1)
            self._save()  # before a process can be killed that has not logged anything yet
        for name in names:
            given = self._sent.steps.get(name, 0)
            about = Tracked(directory=directory, beginning=self._sent.beginning, given=given, settings=settings)
            self._trackers[name] = _tracker(name, about)
            self._sent.steps[name] = self._trackers[name].has

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, tracker in self._trackers.items():
            try:
                tracker.close(failed=error is not None)
            except tracker.failures as failure:
                console.warn(f"tracker={name}: {failure}")

    def log(self, line: LogLine) -> None:
        """Give a line of the curve to those trackers that do not have it."""
        step = line["step"]
        assert isinstance(step, int)
        figures = {name: value for name, value in line.items() if name != "step" and isinstance(value, int | float)}
        for name, tracker in list(self._trackers.items()):
            if step <= self._sent.steps[name]:
                continue
            try:
                tracker.log(step, figures)
            except tracker.failures as failure:
                console.warn(f"tracker={name}: {failure}; training goes on without it")
                del self._trackers[name]
            else:
                self._sent.steps[name] = step
                self._save()

    def _save(self) -> None:
        write_json(self._file, {"beginning": self._sent.beginning, "steps": self._sent.steps})


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is not installed.

    Raises:
        RequestError: one is not.
    """
    for name in names:
        if find_spec(name) is None:
            raise RequestError(
                f"tracker={name}: expected the package {name}, which is not installed: pip install 'sae-cli[{name}]'"
            )


def _tracker(name: str, about: Tracked) -> Tracker:
    match name:
        case "tensorboard":
            from sae_cli.training.trackers.tensorboard import TensorBoard

            return TensorBoard(about)
        case "wandb":
            from sae_cli.training.trackers.weights_and_biases import WeightsAndBiases

            return WeightsAndBiases(about)
    raise AssertionError(name)


def _read(file: Path) -> _Sent:
    """Nothing, where there is none, or what no version of this tool has written."""
    try:
        found = json.loads(file.read_bytes())
        steps = {str(name): int(step) for name, step in found["steps"].items()}
        return _Sent(int(found["beginning"]), steps)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _Sent()
