"""Jobs that read one stream, taking turns in one process.

Each job says how it is opened, and does its work in steps, an iterator that can be left between any two of them. The
job that is furthest behind takes the next step, so what the stream has to keep for the slowest reader stays small. A
job that fails leaves the others alone.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from sae_cli.errors import SaeError
from sae_cli.jobs.estimate import Estimate, announce
from sae_cli.jobs.result import StageResult
from sae_cli.runs.run_names import short_names
from sae_cli.terminal import console, interruption
from sae_cli.terminal.progress import Board, Field, History, Row, board

Asked = TypeVar("Asked")
Made = TypeVar("Made")
Request = TypeVar("Request")
Outcome = StageResult | Exception
"""A job's result, or the error that ended it."""

_SELDOM = 20
"""How many times as long as a save takes passes before the next."""

_EXPECTED = (SaeError, OSError)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a job that is done: how many tokens, and figures to show."""

    tokens: int
    shown: Mapping[str, Field] = field(default_factory=dict[str, Field])


def _nothing() -> None:
    """For steps that leave on disk what they have done."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What an open job does.

    Attributes:
        steps: do the work.
        tokens: how many the steps will add up to.
        needs: what it will take.
        done_before: tokens that an earlier attempt has done.
        past: values of the figure that is drawn, from an earlier attempt.
        save: keeps, between two steps, what it takes to resume from there.
    """

    steps: Iterator[Step]
    tokens: int
    needs: Estimate
    done_before: int = 0
    past: Sequence[float] = ()
    save: Callable[[], None] = _nothing


class Job(ABC):
    """Something that is done step by step and ends with a result.

    Attributes:
        title: what it does, in a word.
        drawn: the figure whose history is drawn meanwhile; empty for none.
        directory: where it leaves its result.
        save_every: seconds between two calls of `Work.save`.
        resumable: whether one that was stopped goes on from where it was.
    """

    title: ClassVar[str]
    resumable: ClassVar[bool] = True
    drawn: ClassVar[str] = ""
    directory: Path
    save_every: float = inf

    @abstractmethod
    def open(self) -> AbstractContextManager[Work]:
        """Look at all that may turn out to be wrong and claim the run; leaving the context completes the run, or, with
        an error, says in it why it has ended."""

    @abstractmethod
    def result(self) -> StageResult:
        """Called once the run is complete."""


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


def run_asked(
    asked: Sequence[Asked],
    request_of: Callable[[Asked], Request],
    shared: Callable[[Request], Hashable],
    new_group: Callable[[], Group[Request]],
) -> list[Outcome]:
    """As `run_all`, of what requests are made of; one that cannot be made leaves the others alone."""
    outcomes: dict[int, Outcome] = {}
    requests: dict[int, Request] = {}
    for number, each in enumerate(asked):
        made = outcome_of(partial(request_of, each))
        if isinstance(made, Exception):
            outcomes[number] = made
        else:
            requests[number] = made
    outcomes |= zip(requests, run_all([*requests.values()], shared, new_group), strict=True)
    return [outcomes[number] for number in range(len(asked))]


def outcome_of(do: Callable[[], Made]) -> Made | Exception:
    """What is done, or the error that a user can cause."""
    try:
        return do()
    except _EXPECTED as error:
        return error.with_traceback(None)


def _division(jobs: int, sizes: list[int]) -> str:
    if len(sizes) == 1:
        return f"{jobs} jobs, side by side on one stream"
    if len(sizes) == jobs:
        return f"{jobs} jobs with different models or texts: one after another"
    return f"{jobs} jobs on {len(sizes)} streams, one after another: {', '.join(map(str, sizes))} jobs side by side"


def run_made(job: Job) -> None:
    """Run a job that has been made; its error is raised."""
    turns = _Turns()
    _run_jobs({0: job}, turns)
    (outcome,) = turns.outcomes.values()
    if isinstance(outcome, Exception):
        raise outcome


def _run_group(requests: dict[int, Request], group: Group[Request]) -> dict[int, Outcome]:
    turns = _Turns()
    jobs = _made(requests, group, turns)
    del group  # with what it holds of jobs that have failed
    _run_jobs(jobs, turns)
    return turns.outcomes


def _run_jobs(jobs: dict[int, Job], turns: _Turns) -> None:
    with turns.ended_by_an_error():
        while jobs:  # emptied: a job that is kept keeps its place in the stream
            turns.open(number := next(iter(jobs)), jobs.pop(number))
        if turns.open_jobs:
            announce(each.work.needs for each in turns.open_jobs.values())
            _take_turns(turns)


def _made(requests: dict[int, Request], group: Group[Request], turns: _Turns) -> dict[int, Job]:
    """The jobs that are asked for; results that are there already, and errors, are noted."""
    jobs: dict[int, Job] = {}
    for number, request in requests.items():
        with turns.noted(number):
            made = group.make(request)
            if isinstance(made, Job):
                jobs[number] = made
            else:
                turns.outcomes[number] = made
    return jobs


def _take_turns(turns: _Turns) -> None:
    """The job that is furthest behind takes the next step; all are saved from time to time, and before a stop."""
    save_every, saved = min(each.job.save_every for each in turns.open_jobs.values()), time.monotonic()
    resumable, wait = any(each.job.resumable for each in turns.open_jobs.values()), save_every
    with _shown(turns.open_jobs) as board, interruption.postponed():
        while turns.open_jobs:
            number = turns.furthest_behind()
            if step := turns.advance(number):
                board.advance(number, step.tokens, step.shown)
            if interruption.is_asked_to_stop() or time.monotonic() - saved >= wait:
                begun = time.monotonic()
                turns.save()
                saved = time.monotonic()
                # A twentieth of the time at most goes into saving, unless it is asked for after every step.
                wait = max(save_every, _SELDOM * (saved - begun)) if save_every else 0
            for ended in board.rows.keys() & turns.outcomes.keys():
                board.end(ended, "failed" if isinstance(turns.outcomes[ended], Exception) else "done")
            if interruption.is_asked_to_stop():
                for error in turns.errors():
                    console.warn(str(error))
                how = "resumes from here" if resumable else "begins again"
                console.log(f"stopped after a whole step: the same command {how}")
                interruption.stop_if_asked()


def _shown(jobs: Mapping[int, _OpenJob]) -> AbstractContextManager[Board]:
    """How jobs are shown while they work; holds none of them."""
    names = short_names([each.job.directory for each in jobs.values()])
    rows = {
        number: Row(name, each.done + each.work.tokens, each.done, history=History(each.work.past))
        for name, (number, each) in zip(names, jobs.items(), strict=True)
    }
    first = next(iter(jobs.values())).job
    return board(first.title, rows, first.drawn)


@dataclass
class _OpenJob:
    """A job that has been opened: `context` completes its run, or ends it with an error; `done` counts tokens."""

    job: Job
    context: ExitStack
    work: Work
    done: int


class _Turns:
    """Jobs that take turns.

    Attributes:
        open_jobs: those that have not ended.
        outcomes: of those that have.
    """

    def __init__(self) -> None:
        self.open_jobs: dict[int, _OpenJob] = {}
        self.outcomes: dict[int, Outcome] = {}

    def open(self, number: int, job: Job) -> None:
        with self.noted(number):
            context = ExitStack()
            work = context.enter_context(job.open())
            self.open_jobs[number] = _OpenJob(job, context, work, work.done_before)

    def furthest_behind(self) -> int:
        return min(self.open_jobs, key=lambda number: self.open_jobs[number].done)

    def advance(self, number: int) -> Step | None:
        """A job's next step; None when there is none any more."""
        each = self.open_jobs[number]
        with self.noted(number):
            with each.context:
                if step := next(each.work.steps, None):
                    each.context = each.context.pop_all()  # stays open
                    each.done += step.tokens
                    return step
            self.outcomes[number] = each.job.result()
        del self.open_jobs[number]
        return None

    def save(self) -> None:
        """Let every job save where it is; one that cannot has failed."""
        for number, each in list(self.open_jobs.items()):
            with self.noted(number), each.context:
                each.work.save()
                each.context = each.context.pop_all()
            if number in self.outcomes:
                del self.open_jobs[number]

    def errors(self) -> list[Exception]:
        """What has ended jobs before their end."""
        return [outcome for outcome in self.outcomes.values() if isinstance(outcome, Exception)]

    @contextmanager
    def noted(self, number: int) -> Generator[None, None, None]:
        """An error that a user can cause becomes the job's outcome; an interruption is everybody's."""
        try:
            yield
        except _EXPECTED as error:
            self.outcomes[number] = error.with_traceback(None)

    @contextmanager
    def ended_by_an_error(self) -> Generator[None, None, None]:
        """What is raised here ends all jobs, and each run says why."""
        try:
            yield
        except BaseException as error:
            for each in self.open_jobs.values():
                with suppress(Exception, type(error)):
                    each.context.__exit__(type(error), error, error.__traceback__)
            raise
