"""From a request to what is done: plan, then run the job or the sweep, or print the configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sae_cli.cli import overrides, requirements
from sae_cli.cli.diagnosis import request_errors
from sae_cli.cli.launch import launch
from sae_cli.cli.layers import one_run_a_dictionary, one_run_a_layer
from sae_cli.cli.of_the_run import with_its_source
from sae_cli.cli.request import Request
from sae_cli.config.compose import Composer
from sae_cli.errors import RequestError


def execute(request: Request) -> None:
    """Do what was asked for.

    Raises:
        SaeError: it could not be done, or its result does not meet the requirements.
    """
    given = overrides.with_runs(request.overrides, request.command)
    typed = [overrides.in_digits(overrides.at_home(each), request.command) for each in given]
    request = with_its_source(replace(request, overrides=typed))
    if request.cfg or request.info:
        _print_configuration(request)
        return
    request = one_run_a_dictionary(one_run_a_layer(request))
    if request.multirun and request.show:
        raise RequestError("--show shows features of one run: leave -m out, or show them run by run")
    if request.multirun:
        from sae_cli.cli.sweep import run_sweep

        run_sweep(request)
    else:
        _run_single(request)


def _run_single(request: Request) -> None:
    from sae_cli.cli.job import run_job
    from sae_cli.cli.output import as_document, show
    from sae_cli.cli.plan import make_plan
    from sae_cli.cli.required_fields import check_fields
    from sae_cli.terminal import console

    required = [requirements.parse(expression) for expression in request.requirements]
    plan = make_plan(request)
    check_fields(required, request.command, [each.config for each in plan.jobs])
    console.configure(quiet=request.quiet)
    result = run_job(plan.jobs[0])
    if request.show:  # before stdout says that all went well
        from sae_cli.reports.feature_page import show as show_pages

        show_pages(Path(str(result.document["sheets"])), request.show)
    show(result, request.as_json)
    requirements.check(required, as_document(result))


def _print_configuration(request: Request) -> None:
    if request.multirun or (request.cfg and request.info):
        raise RequestError("--cfg, --info and --multirun exclude each other")
    given = overrides.parse(request.overrides, multirun=False)
    flags = ["--info", "all"] if request.cfg is None else ["--cfg", request.cfg.value]
    if request.resolve:
        flags.append("--resolve")
    with request_errors(Composer(request.config_dir), request.command, given):
        launch(request, _no_job, [*request.overrides, *flags])


def _no_job(_: Any) -> None:
    raise AssertionError("Hydra runs no job with --cfg and --info")
