"""What a request would run: its jobs, each checked and given its place, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from sae_cli.cli import overrides as typed_overrides
from sae_cli.cli.diagnosis import no_key, request_errors
from sae_cli.cli.of_the_run import MEASURING, inherit_from_the_run
from sae_cli.cli.request import Request
from sae_cli.config.commands import CommandConfig, EvalConfig, FeaturesConfig
from sae_cli.config.compose import Composed, Composer, typed, unknown_keys
from sae_cli.config.effects import asked_without_effect, said, without_effect
from sae_cli.config.names import baseline_choices, evaluation_name, run_directory
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
    """The jobs of a request; for a sweep its launcher, the folder for its bookkeeping, and what is to be said of it."""

    jobs: tuple[PlannedJob, ...]
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
        first = composer.compose(request.command, [*hydra, *jobs[0]])
        if request.multirun and (params := first.hydra.sweeper.get("params")):
            jobs = _expand([*typed_overrides.parse([f"{key}={value}" for key, value in params.items()], True), *task])
            first = composer.compose(request.command, [*hydra, *jobs[0]])
        composed = [first, *(composer.compose(request.command, [*hydra, *job]) for job in jobs[1:])]
        configs = [_checked(composer, request, *each, given) for each in zip(composed, jobs, strict=True)]
        notes = _leave_out(composer, request, composed, configs, jobs, given) if len(jobs) > 1 else []
        places = [
            _place(composer, request.command, config, each) for config, each in zip(configs, composed, strict=True)
        ]
        launcher, sweep_dir = (
            first.hydra.runtime.choices["hydra/launcher"],
            Path(os.path.expanduser(first.hydra.sweep.dir)),
        )
    planned = tuple(
        PlannedJob(overrides=tuple(job), config=config, place=place)
        for job, config, place in zip(jobs, configs, places, strict=True)
    )
    _refuse_shared_places(planned)
    return Plan(jobs=planned, launcher=launcher, sweep_dir=sweep_dir, notes=tuple(notes))


def _expand(overrides: Sequence[Override]) -> list[list[str]]:
    """The jobs of a sweep, in the order in which Hydra's own sweeper numbers them."""
    return BasicSweeper.split_arguments(list(overrides), max_batch_size=None)[0]


def _checked(
    composer: Composer, request: Request, composed: Composed, job: Sequence[str], given: Sequence[Override]
) -> CommandConfig:
    for key in unknown_keys(composed.settings):
        raise RequestError(no_key(key, composer, request.command, given))
    if request.command in MEASURING:
        inherit_from_the_run(composed.settings, job, request.own_source)
    return typed(composed.settings)


def _leave_out(
    composer: Composer,
    request: Request,
    composed: list[Composed],
    configs: list[CommandConfig],
    jobs: Sequence[Sequence[str]],
    given: Sequence[Override],
) -> list[str]:
    """Take a setting out of the jobs in which it has no effect, in place, if it has one in another job of the sweep;
    returns a line for each."""
    idle = [{each.key for each in without_effect(config)} for config in configs]
    everywhere, lines = set.intersection(*idle), dict[str, int]()
    for number, (config, job) in enumerate(zip(list(configs), jobs, strict=True)):
        baseline = _baseline(composer, request.command, config, composed[number])
        asked = {each.key: each for each in asked_without_effect(config, baseline) if each.key not in everywhere}
        rest = [text for text in job if text.partition("=")[0].lstrip("+") not in asked]
        if len(rest) == len(job):
            continue
        for each in asked.values():
            line = f"{said(config, each)} is left out where it has no effect, {each.beside}"
            lines[line] = lines.get(line, 0) + 1
        hydra = [text for each in given if each.is_hydra_override() and (text := each.input_line)]
        composed[number] = composer.compose(request.command, [*hydra, *rest])
        configs[number] = _checked(composer, request, composed[number], rest, given)
    return [f"{line} ({count} of {len(jobs)} jobs)" for line, count in lines.items()]


def _baseline(composer: Composer, command: str, config: CommandConfig, composed: Composed) -> dict[str, Any]:
    return composer.baseline(command, baseline_choices(config, composed.hydra.runtime.choices))


def _place(composer: Composer, command: str, config: CommandConfig, composed: Composed) -> Place:
    baseline = _baseline(composer, command, config, composed)
    directory = run_directory(config, baseline)
    inside_a_run = isinstance(config, EvalConfig | FeaturesConfig)
    return (directory, evaluation_name(config, baseline)) if inside_a_run else (directory,)


def _refuse_shared_places(jobs: Sequence[PlannedJob]) -> None:
    taken: dict[Place, PlannedJob] = {}
    for job in jobs:
        if job.place in taken:
            both = " and ".join(f"({' '.join(each.overrides)})" for each in (taken[job.place], job))
            raise RequestError(f"two jobs of this sweep would both write {job.place[0]}: {both}")
        taken[job.place] = job


def varying(jobs: Sequence[PlannedJob]) -> list[str]:
    """For each job, the overrides that tell it apart from the others."""
    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    return [" ".join(text for text in job.overrides if text not in common) for job in jobs]
