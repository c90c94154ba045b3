"""What a request would run: its jobs, each checked and given its place, before anything is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from sae_cli.cli import overrides as typed_overrides
from sae_cli.cli.diagnosis import no_key, request_errors
from sae_cli.cli.of_the_run import MEASURING, inherit_from_the_run
from sae_cli.cli.request import Request
from sae_cli.config.commands import CommandConfig, EvalConfig, FeaturesConfig
from sae_cli.config.compose import Composed, Composer, typed, unknown_keys
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
    """The jobs of a request; for a sweep its launcher and the folder for its bookkeeping."""

    jobs: tuple[PlannedJob, ...]
    launcher: str
    sweep_dir: Path


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
    return Plan(jobs=planned, launcher=launcher, sweep_dir=sweep_dir)


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


def _place(composer: Composer, command: str, config: CommandConfig, composed: Composed) -> Place:
    baseline = composer.baseline(command, baseline_choices(config, composed.hydra.runtime.choices))
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
