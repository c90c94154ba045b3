"""What a request would run: its jobs, each checked and given its place, before anything is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from sae_cli.cli import overrides as typed_overrides
from sae_cli.cli.diagnosis import no_key, request_errors
from sae_cli.cli.of_the_run import inherit_from_the_run, key_of
from sae_cli.cli.request import Request
from sae_cli.config.command import CommandConfig
from sae_cli.config.commands import schema_of
from sae_cli.config.compose import Composed, Composer, typed, unknown_keys
from sae_cli.config.effects import asked_without_effect
from sae_cli.config.names import baseline_choices, measurement_name, run_directory
from sae_cli.documents import Facts
from sae_cli.errors import RequestError

Place = tuple[Path] | tuple[Path, str]
"""What a stage takes after its configuration: the run directory and, for what lives inside another run, its name."""


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One job of a request: the overrides given for it, the configuration they make, and its place."""

    overrides: tuple[str, ...]
    config: CommandConfig
    place: Place


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The jobs of a request; for a sweep its launcher, the folder for its bookkeeping, and what is to be said of it.

    Attributes:
        jobs: each once.
        numbers: for each job as Hydra numbers them, which of `jobs` it is; None where that is an earlier one's again,
            because what tells the two apart has no effect.
    """

    jobs: tuple[PlannedJob, ...]
    numbers: tuple[int | None, ...]
    launcher: str
    sweep_dir: Path
    notes: tuple[str, ...] = ()


def make_plan(request: Request) -> Plan:
    """Compose every job of the request.

    Raises:
        RequestError: a job is not valid, or two would write to one place.
    """
    composer = Composer(request.config_dir)
    given = typed_overrides.parse(request.overrides, request.multirun)
    with request_errors(composer, request.command, given):
        hydra = [text for each in given if each.is_hydra_override() and (text := each.input_line)]
        task = [each for each in given if not each.is_hydra_override()]
        jobs = _expand(task) if request.multirun else [[text for each in task if (text := each.input_line)]]
        drafter = _Drafter(composer, request, given, hydra)
        first = drafter.composed(jobs[0])
        if request.multirun and (params := first.hydra.sweeper.get("params")):
            jobs = _expand([*typed_overrides.parse([f"{key}={value}" for key, value in params.items()], True), *task])
            first = drafter.composed(jobs[0])
        drafts = [drafter.draft(job, first if job is jobs[0] else drafter.composed(job)) for job in jobs]
        kept, notes = _where_they_have_effect(drafter, drafts)
        planned = [_planned(each) for each in kept]
    changed = {number for number, each in enumerate(kept) if each is not drafts[number]}
    unique, numbers = _each_once(planned, changed)
    launcher = first.hydra.runtime.choices["hydra/launcher"]
    sweep_dir = Path(os.path.expanduser(first.hydra.sweep.dir))
    return Plan(jobs=unique, numbers=numbers, launcher=launcher, sweep_dir=sweep_dir, notes=notes)


def _expand(overrides: Sequence[Override]) -> list[list[str]]:
    """The jobs of a sweep, in the order in which Hydra's own sweeper numbers them."""
    return BasicSweeper.split_arguments(list(overrides), max_batch_size=None)[0]


class _Draft(NamedTuple):
    """A job as it was asked for: its overrides, the configuration that they make, and the settings of its group choices
    and nothing else."""

    overrides: tuple[str, ...]
    config: CommandConfig
    baseline: Facts


class _Drafter(NamedTuple):
    """What all jobs of a request have in common."""

    composer: Composer
    request: Request
    given: Sequence[Override]
    hydra: Sequence[str]

    def composed(self, job: Sequence[str]) -> Composed:
        return self.composer.compose(self.request.command, [*self.hydra, *job])

    def draft(self, job: Sequence[str], composed: Composed) -> _Draft:
        """A job of these overrides.

        Raises:
            RequestError: it is not valid.
        """
        command, (settings, hydra) = self.request.command, composed
        for key in unknown_keys(settings):
            raise RequestError(no_key(key, self.composer, command, self.given))
        if (schema := schema_of(command)).on_data_of_run:
            inherit_from_the_run(settings, job, self.request.own_source, schema.own_data)
        config = typed(settings)
        choices = baseline_choices(config, hydra.runtime.choices)
        return _Draft(tuple(job), config, self.composer.baseline(command, choices))


def _where_they_have_effect(drafter: _Drafter, drafts: Sequence[_Draft]) -> tuple[list[_Draft], tuple[str, ...]]:
    """The jobs of a sweep without the settings that have an effect in others of them only; with a line for each."""
    idle = [{each.key for each in draft.config.idle()} for draft in drafts]
    everywhere, left_out = set.intersection(*idle), Counter[str]()
    made, kept = {draft.overrides: draft for draft in drafts}, []
    for draft in drafts:
        asked = [each for each in asked_without_effect(draft.config, draft.baseline) if each.key not in everywhere]
        rest = tuple(text for text in draft.overrides if not any(each.is_of(key_of(text)) for each in asked))
        if len(rest) == len(draft.overrides):
            kept.append(draft)
            continue
        if rest not in made:  # several jobs may be one without it
            made[rest] = drafter.draft(rest, drafter.composed(rest))
        kept.append(made[rest])
        left_out.update(f"{each.shown} is left out where it has no effect, {each.beside}" for each in asked)
    return kept, tuple(f"{line} ({count} of {len(drafts)} jobs)" for line, count in left_out.items())


def _planned(draft: _Draft) -> PlannedJob:
    overrides, config, baseline = draft
    directory = run_directory(config, baseline)
    place = (directory,) if config.inside() is None else (directory, measurement_name(config, baseline))
    return PlannedJob(overrides=overrides, config=config, place=place)


def _each_once(jobs: Sequence[PlannedJob], changed: Set[int]) -> tuple[tuple[PlannedJob, ...], tuple[int | None, ...]]:
    """The jobs without those that are an earlier one again once settings without effect are left out, and their numbers
    (see `Plan`).

    Args:
        jobs: as Hydra numbers them.
        changed: those that something was left out of.

    Raises:
        RequestError: two others would write to one place.
    """
    taken: dict[Place, int] = {}
    numbers: list[int | None] = []
    for number, job in enumerate(jobs):
        first = taken.setdefault(job.place, number)
        if first != number and not (changed & {first, number} and job.config == jobs[first].config):
            both = " and ".join(f"({' '.join(each.overrides)})" for each in (jobs[first], job))
            raise RequestError(f"two jobs of this sweep would both write {job.place[0]}: {both}")
        numbers.append(len(taken) - 1 if first == number else None)
    return tuple(jobs[number] for number in taken.values()), tuple(numbers)


def varying(jobs: Sequence[PlannedJob]) -> list[str]:
    """For each job, the overrides that tell it apart from the others."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return [" ".join(text for text in job.overrides if text not in common) for job in jobs]
