"""Jobs that read one stream, carried on in turns in one process.

Each job is a generator of steps. The job that is furthest behind takes the next step, so what the stream has to
keep for the slowest reader stays small. A job that fails leaves the others alone.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from sae_cli.errors import SaeError
from sae_cli.jobs.estimate import Estimate, announce
from sae_cli.jobs.result import StageResult
from sae_cli.runs.run_names import short_names
from sae_cli.terminal import console, interruption
from sae_cli.terminal.board import Board, Field, History, Row

Request = TypeVar("Request")
Outcome = StageResult | Exception
"""A job's result, or the error that ended it."""

_EXPECTED = (SaeError, OSError)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a job that is done: how many tokens, and figures to show."""

    tokens: int = 0
    shown: Mapping[str, Field] = field(default_factory=dict)


class Job(ABC):
    """Something that goes on step by step and ends with a result.

    Attributes:
        title: what it does, in a word.
        drawn: the figure whose history is drawn while it goes on; empty for none.
        directory: where it leaves its result.
        tokens: how many its steps will add up to.
        done_before: tokens that an earlier attempt has done.
        past: values of the figure that is drawn from an earlier attempt; known after the first step.
        needs: what it will take; known after the first step, which is an empty one.
        save_every: seconds between two calls of `save`.
    """

    title: ClassVar[str]
    drawn: ClassVar[str] = ""
    directory: Path
    tokens: int
    done_before: int = 0
    past: Sequence[float] = ()
    needs: Estimate
    save_every: float = inf

    @abstractmethod
    def steps(self) -> Generator[Step, None, None]:
        """Do the work; the first step comes before it, when all that may turn out to be wrong has been looked at."""

    def save(self) -> None:  # noqa: B027
        """Save, between two steps, what it takes to go on from here; nothing where steps leave what they have done."""

    @abstractmethod
    def result(self) -> StageResult:
        """Called once the steps have come to their end."""


class Group(ABC, Generic[Request]):
    """Makes the jobs that share a stream."""

    @abstractmethod
    def make(self, request: Request) -> Job | StageResult:
        """The job that a request asks for, or its result where that exists already."""


def run_one(request: Request, group: Group[Request]) -> StageResult:
    """Run one job by itself; its error is raised."""
    (outcome,) = _run_group({0: request}, group).values()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_all(
    requests: Sequence[Request], shared: Callable[[Request], Hashable], new_group: Callable[[], Group[Request]]
) -> list[Outcome]:
    """Run jobs, those that share a stream side by side, the others one after another.

    Args:
        requests: what each job is made from.
        shared: equal for jobs that share a stream.
        new_group: called for each set of such jobs.

    Returns:
        One outcome for each request.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault(shared(request), []).append(number)
    if len(requests) > 1:
        console.log(_division(len(requests), [len(numbers) for numbers in groups.values()]))
    outcomes: dict[int, Outcome] = {}
    for numbers in groups.values():
        outcomes |= _run_group({number: requests[number] for number in numbers}, new_group())
    return [outcomes[number] for number in range(len(requests))]


def _division(jobs: int, sizes: list[int]) -> str:
    if len(sizes) == 1:
        return f"{jobs} jobs, side by side on one stream"
    if len(sizes) == jobs:
        return f"{jobs} jobs with other models or texts share nothing: in turn"
    return f"{jobs} jobs on {len(sizes)} streams, in turn: {', '.join(map(str, sizes))} jobs side by side"


def _run_group(requests: dict[int, Request], group: Group[Request]) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    jobs: dict[int, Job] = {}
    for number, request in requests.items():
        with _noted(outcomes, number):
            made = group.make(request)
            if isinstance(made, Job):
                jobs[number] = made
            else:
                outcomes[number] = made
    del group  # with what it holds of jobs that have failed
    return outcomes | _carry_on(jobs)


@contextmanager
def _noted(outcomes: dict[int, Outcome], number: int) -> Iterator[None]:
    """An error that a user can cause becomes the job's outcome; an interruption is everybody's."""
    try:
        yield
    except _EXPECTED as error:
        outcomes[number] = error.with_traceback(None)


def _carry_on(jobs: dict[int, Job]) -> dict[int, Outcome]:
    """Take steps until every job has come to its end; empties `jobs`, because one that is kept keeps its place
    in the stream."""
    turns = _Turns(jobs)
    try:
        for number in list(turns.running):
            turns.advance(number)
        if turns.running:
            announce(job.needs for job in jobs.values())
            _take_turns(turns)
    except BaseException as error:
        for steps in turns.running.values():
            with suppress(Exception, type(error)):
                steps.throw(error)  # so that each run says why it has ended
        raise
    return turns.outcomes


def _take_turns(turns: _Turns) -> None:
    """The job that is furthest behind takes the next step; all are saved from time to time, and before a stop."""
    save_every, saved = min(job.save_every for job in turns.jobs.values()), time.monotonic()
    with _shown(turns.jobs) as board, interruption.postponed():
        while turns.running:
            number = turns.furthest_behind()
            if step := turns.advance(number):
                board.advance(number, step.tokens, step.shown)
            if interruption.is_asked_to_stop() or time.monotonic() - saved >= save_every:
                turns.save()
                saved = time.monotonic()
            for ended in board.rows.keys() & turns.outcomes.keys():
                board.end(ended, "failed" if isinstance(turns.outcomes[ended], Exception) else "done")
            if interruption.is_asked_to_stop():
                for error in turns.errors():
                    console.warn(str(error))
                console.log("stopped after a whole step: the same command goes on from here")
                interruption.stop_if_asked()


def _shown(jobs: Mapping[int, Job]) -> AbstractContextManager[Board]:
    """How jobs are shown while they go on; holds none of them."""
    names = short_names([job.directory for job in jobs.values()])
    rows = {
        number: Row(name, job.done_before + job.tokens, job.done_before, history=History(job.past))
        for name, (number, job) in zip(names, jobs.items(), strict=True)
    }
    first = next(iter(jobs.values()))
    return console.board(first.title, rows, first.drawn)


class _Turns:
    """Jobs that go on in turns.

    Attributes:
        jobs: that have not come to their end.
        running: their steps.
        outcomes: of those that have.
    """

    def __init__(self, jobs: dict[int, Job]) -> None:
        self.jobs = jobs
        self.running = {number: job.steps() for number, job in jobs.items()}
        self.outcomes: dict[int, Outcome] = {}
        self._done = {number: job.done_before for number, job in jobs.items()}

    def furthest_behind(self) -> int:
        return min(self.running, key=lambda number: self._done[number])

    def advance(self, number: int) -> Step | None:
        """A job's next step; None when there is none any more."""
        with _noted(self.outcomes, number):
            if step := next(self.running[number], None):
                self._done[number] += step.tokens
                return step
            self.outcomes[number] = self.jobs[number].result()
        self._end(number)
        return None

    def save(self) -> None:
        """Let every job save where it is; one that cannot has failed."""
        for number, job in list(self.jobs.items()):
            with _noted(self.outcomes, number):
                try:
                    job.save()
                except _EXPECTED as error:
                    self.running[number].throw(error)
            if number in self.outcomes:
                self._end(number)

    def errors(self) -> list[Exception]:
        """What has ended jobs before their end."""
        return [outcome for outcome in self.outcomes.values() if isinstance(outcome, Exception)]

    def _end(self, number: int) -> None:
        del self.running[number], self.jobs[number]
