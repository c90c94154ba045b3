"""Jobs that read one stream, carried on in turns in one process.

Each job is a generator of steps. The job that is furthest behind takes the next step, so what the stream has to
keep for the slowest reader stays small. A job that fails leaves the others alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from sae_cli import console
from sae_cli.errors import Interrupted, SaeError
from sae_cli.stages.estimate import Estimate, announce
from sae_cli.stages.result import StageResult

Request = TypeVar("Request")
Outcome = StageResult | Exception
"""A job's result, or the error that ended it."""

_EXPECTED = (SaeError, OSError)


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of a job that is done: how many tokens, and figures to show."""

    tokens: int = 0
    shown: Mapping[str, console.Field] = field(default_factory=dict)


class Job(ABC):
    """Something that goes on step by step and ends with a result.

    Attributes:
        title: what it does, in a word.
        tokens: how many its steps will add up to.
        needs: what it will take; known after the first step, which is an empty one.
    """

    title: ClassVar[str]
    tokens: int
    needs: Estimate

    @abstractmethod
    def steps(self) -> Generator[Step, None, None]:
        """Do the work; the first step comes before it, when all that may turn out to be wrong has been looked at."""

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
    except Interrupted:
        raise
    except _EXPECTED as error:
        outcomes[number] = error.with_traceback(None)


def _carry_on(jobs: dict[int, Job]) -> dict[int, Outcome]:
    """Take steps until every job has come to its end; empties `jobs`, because one that is kept keeps its place
    in the stream."""
    outcomes: dict[int, Outcome] = {}
    running = {number: job.steps() for number, job in jobs.items()}

    def advance(number: int) -> Step | None:
        with _noted(outcomes, number):
            if step := next(running[number], None):
                return step
            outcomes[number] = jobs[number].result()
        del running[number], jobs[number]
        return None

    try:
        for number in list(running):
            advance(number)
        if not running:
            return outcomes
        announce(job.needs for job in jobs.values())
        done = dict.fromkeys(running, 0)
        title, total = next(iter(jobs.values())).title, sum(job.tokens for job in jobs.values())
        with console.progress(total, title) as show:
            while running:
                number = min(running, key=lambda number: done[number])
                if step := advance(number):
                    done[number] += step.tokens
                    show(step.tokens, **(step.shown if len(done) == 1 else {}))
    except BaseException as error:
        for steps in running.values():
            with suppress(Exception, type(error)):
                steps.throw(error)  # so that each run says why it has ended
        raise
    return outcomes
