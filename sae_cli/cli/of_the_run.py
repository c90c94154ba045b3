"""Measuring a run on data of one's own: what is not asked for is as the run has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from sae_cli.cli import overrides
from sae_cli.cli.request import Request
from sae_cli.config.commands import schema_of
from sae_cli.config.data import DataConfig
from sae_cli.config.inheritance import DATA, inherit, schema_name
from sae_cli.errors import RequestError, SaeError

_RUN = "run"


def with_its_source(request: Request) -> Request:
    """`data.context=32` alone changes that one setting of the run's own data, whichever source that is."""
    keys = [key_of(text) for text in request.overrides]
    if (
        not schema_of(request.command).on_data_of_run
        or DATA in keys
        or not any(key.startswith(f"{DATA}.") for key in keys)
    ):
        return request
    runs = [run for text in request.overrides if key_of(text) == _RUN for run in _runs(text, request.multirun)]
    sources = {schema_name(_trained_on(run)): run for run in runs}
    if not runs:
        return request
    if len(sources) > 1:
        found = " and ".join(f"{name} ({run})" for name, run in sources.items())
        raise RequestError(f"{DATA}.…: the runs were trained on different sources, {found}; say which one with {DATA}=")
    return replace(request, overrides=[*request.overrides, f"{DATA}={next(iter(sources))}"], own_source=True)


def inherit_from_the_run(
    settings: DictConfig, job: Sequence[str], own_source: bool, own_data: Sequence[str] = ()
) -> None:
    """Let the data of a job be as that of its run where it does not ask for something else, in place.

    Args:
        settings: of the job, as they were composed.
        job: its overrides.
        own_source: see `Request`.
        own_data: settings of the data that the command does not take over.
    """
    if settings[DATA] is None or OmegaConf.is_missing(settings, _RUN):
        return
    runs = settings[_RUN]
    try:
        trained = _trained_on(runs if isinstance(runs, str) else runs[0])
    except SaeError:
        return  # which the job itself will say
    given = {key_of(text) for text in job} - ({DATA} if own_source else set())
    given.update(own_data)
    inherit(settings, given, trained)


def key_of(text: str) -> str:
    """The setting, or the group, that an override is for."""
    return text.partition("=")[0].lstrip("+")


def _runs(text: str, multirun: bool) -> list[str]:
    (given,) = overrides.parse([text], multirun)
    values = list(given.sweep_iterator()) if given.is_sweep_override() else [given.value()]
    return [str(run) for value in values for run in (value if isinstance(value, list) else [value])]


def _trained_on(run: str) -> DataConfig:
    from sae_cli.runs.dictionary_run import read_dictionary_run

    return read_dictionary_run(run).data()
