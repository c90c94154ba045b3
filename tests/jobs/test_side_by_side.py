"""Turns: who takes the next step, and that every open job is left, with what ended it."""

from contextlib import contextmanager
from pathlib import Path
from weakref import ref

import pytest

from sae_cli.errors import Interrupted, JobError
from sae_cli.jobs import side_by_side
from sae_cli.jobs.estimate import Estimate
from sae_cli.jobs.result import StageResult
from sae_cli.jobs.side_by_side import Group, Job, Step, Work, run_all, run_one


class Counting(Job):
    """Writes down what happens to it; `steps` are sizes, or an error to raise."""

    title = "count"
    save_every = 0

    def __init__(self, log, name, steps, done_before=0, refuses=None, on_save=None):
        self.log, self.name, self.sizes, self.directory = log, name, steps, Path(name)
        self.done_before, self.refuses, self.on_save = done_before, refuses, on_save

    @contextmanager
    def open(self):
        if self.refuses:
            raise self.refuses
        self.log.append(("open", self.name))
        try:
            needs, before = Estimate(), self.done_before
            yield Work(steps=self._steps(), tokens=10, needs=needs, done_before=before, save=self._save)
        except BaseException as error:
            self.log.append((str(error), self.name))
            raise
        self.log.append(("complete", self.name))

    def _steps(self):
        for size in self.sizes:
            if isinstance(size, BaseException):
                raise size
            self.log.append((size, self.name))
            yield Step(tokens=size)

    def _save(self):
        if self.on_save:
            raise self.on_save

    def result(self):
        return StageResult(directory=self.directory, title=self.title, document={}, table=[])


class Given(Group):
    def make(self, request):
        return request


def run(*jobs):
    return run_all(jobs, lambda job: "one stream", Given)


def of(log, name):
    return [what for what, who in log if who == name]


def test_the_job_that_is_furthest_behind_takes_the_next_step():
    log = []
    run(Counting(log, "a", [3, 3]), Counting(log, "b", [1, 1, 1, 1]), Counting(log, "c", [1], done_before=4))
    assert log[:3] == [("open", "a"), ("open", "b"), ("open", "c")]
    steps = [each for each in log if isinstance(each[0], int)]
    assert steps == [(3, "a"), (1, "b"), (1, "b"), (1, "b"), (3, "a"), (1, "b"), (1, "c")]
    assert all(of(log, name)[-1] == "complete" for name in "abc")


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": [1, JobError("diverged")]},
        {"steps": [1, 1], "on_save": JobError("diverged")},
        {"steps": [1], "refuses": JobError("diverged")},
    ],
)
def test_an_error_ends_one_job_and_reaches_its_context(bad):
    log = []
    failed, done = run(Counting(log, "bad", **bad), Counting(log, "good", [1, 1]))
    assert str(failed) == "diverged" and isinstance(failed, JobError) and isinstance(done, StageResult)
    assert of(log, "bad")[-1:] == ([] if "refuses" in bad else ["diverged"])
    assert of(log, "good") == ["open", 1, 1, "complete"]
    with pytest.raises(JobError, match="diverged"):
        run_one(Counting(log, "alone", **bad), Given())


@pytest.mark.parametrize("error", [Interrupted("interrupted", 2), ZeroDivisionError("a mistake")])
def test_what_ends_all_reaches_every_context(error):
    log = []
    with pytest.raises(type(error)):
        run(Counting(log, "a", [1, error]), Counting(log, "b", [1, 1]), Counting(log, "c", []))
    assert of(log, "a") == ["open", 1, str(error)]
    assert of(log, "b")[-1] in (str(error), "complete") and of(log, "c") == ["open", "complete"]


def test_a_job_that_has_ended_is_let_go():
    """What it holds keeps its place in the stream."""
    gone = []

    class Watching(Counting):
        def _steps(self):
            yield Step(tokens=5)
            gone.append(other() is None)

    job = Counting([], "short", [1])
    other = ref(job)
    jobs = [Watching([], "long", []), job]
    del job

    class Popping(Group):
        def make(self, request):
            return jobs.pop(0)

    run_all([0, 1], lambda request: "one stream", Popping)
    assert gone == [True]


@pytest.mark.parametrize(("takes", "every", "saves"), [(0.01, 10, 9), (2, 10, 3), (2, 0, 100)])
def test_a_twentieth_of_the_time_at_most_goes_into_saving(monkeypatch, takes, every, saves):
    """A hundred steps of a second, with a clock of their own."""
    now, saved = [0.0], []

    class Clocked(Counting):
        save_every = every

        def _steps(self):
            for step in super()._steps():
                now[0] += 1
                yield step

        def _save(self):
            now[0] += takes
            saved.append(now[0])

    monkeypatch.setattr(side_by_side.time, "monotonic", lambda: now[0])
    run(Clocked([], "a", [1] * 100))
    assert len(saved) == saves
