"""The frame of every run: what is finished is found, and what is not is made in a place of its own, by one process.

A command says what is made; that it is made once is said here. The frame lies below `commands/` because evaluations,
which several commands ask for, are made in it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from sae_cli.artifacts.files import ANOTHER_PLACE, check_writable
from sae_cli.artifacts.run_directory import Run, finished_run, open_run, unfinished_run
from sae_cli.artifacts.stored_run import FinishedRun, UnfinishedRun
from sae_cli.config.command import CommandConfig, MeasuringConfig
from sae_cli.config.settings import result_settings
from sae_cli.config.stored import CONFIG_FILE, as_yaml
from sae_cli.runs.outside import check_place, folder_of
from sae_cli.runs.stored_figures import old_definitions
from sae_cli.terminal import console

Config = TypeVar("Config", bound=CommandConfig)
Measuring = TypeVar("Measuring", bound=MeasuringConfig)
Made = TypeVar("Made")


class Claim(Generic[Config]):
    """A run that is asked for.

    Attributes:
        config: what it is made with, by the command whose schema that is.
        directory: its place.
        settings: those that would make it another run, flattened.
        overwrite: whether what is there is replaced.
        doing: what it does, in a word, for the line that says that it is done again.
    """

    def __init__(self, config: Config, directory: Path, doing: str = "measuring") -> None:
        self.config, self.directory, self.doing = config, directory, doing
        self.settings, self.overwrite = result_settings(config), config.overwrite
        self._started = time.monotonic()

    def finished(self) -> FinishedRun | None:
        """The finished run of these settings, unless its figures are by definitions of another version.

        Raises:
            RequestError: something else is there.
            BusyError: another process is making it.
        """
        found = finished_run(self.directory, self.settings, self.overwrite)
        if found and (old := old_definitions(found)):
            console.log(f"{old}; {self.doing} again")
            self.overwrite = True
            return None
        return found

    def is_finished(self) -> bool:
        """Whether there is such a run; errors as `finished`."""
        found = finished_run(self.directory, self.settings, self.overwrite)
        return found is not None and not old_definitions(found)

    def check_place(self) -> None:
        """Refuse a place that cannot be written, before anything is done for it; a `JobError`."""
        check_writable(self.directory, ANOTHER_PLACE)

    def attempt(self) -> UnfinishedRun | None:
        """What an earlier attempt has left, which may be resumed."""
        return unfinished_run(self.directory, self.overwrite)

    @contextmanager
    def open(
        self, parents: Iterable[FinishedRun] = (), attempt: UnfinishedRun | None = None, keep: Iterable[str] = ()
    ) -> Generator[Run, None, None]:
        """The run, to be filled and finished; what it is made with is in it already. Arguments as `open_run`."""
        command, what = self.config.command, (self.settings, self.overwrite, parents, attempt, keep)
        with open_run(self.directory, command, *what) as run:
            run.write_text(CONFIG_FILE, as_yaml(self.config))
            yield run

    def start_clock(self) -> None:
        """What was done until now does not count."""
        self._started = time.monotonic()

    def seconds(self) -> float:
        """How long it has taken."""
        return time.monotonic() - self._started


class ClaimInside(Claim[Measuring]):
    """A measurement that lies inside the run that it is of, or beside it in `out`: in `<command>/<name>`."""

    def __init__(
        self, config: Measuring, run: FinishedRun, out: str | None, name: str, doing: str = "measuring"
    ) -> None:
        super().__init__(config, folder_of(run, out, config.command, name), doing)
        del self.settings["run"]  # its place says which
        self._run, self._out = run, out

    def check_place(self) -> None:
        check_place(self._run, self._out, self.directory, self.config.command)


def once(
    claim: Claim[Config], make: Callable[[Claim[Config]], Made], found: Callable[[FinishedRun], None] | None = None
) -> FinishedRun | Made:
    """The run that is asked for, if it is finished; else what is made.

    Args:
        claim: the run.
        make: makes it, or what will.
        found: looks at a finished run before it is taken.
    """
    if finished := claim.finished():
        if found:
            found(finished)
        console.log(f"already finished: {claim.directory}")
        return finished
    claim.check_place()
    claim.start_clock()
    return make(claim)
