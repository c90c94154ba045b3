"""`sae resume`: what was stopped, and going on with it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

from sae_cli.cli.command import Quiet
from sae_cli.cli.errors import EXPECTED, explain
from sae_cli.cli.list_runs import AsJson, Paths, runs_folder
from sae_cli.errors import Interrupted, JobError, RequestError
from sae_cli.stages.result import StageResult


def resume(paths: Paths = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Go on with stopped runs: sae resume RUN; or show them: sae resume [FOLDER]"""
    from sae_cli import console
    from sae_cli.cli.output import show_listing
    from sae_cli.stages.inventory import check_folder, is_run
    from sae_cli.stages.resume import listing

    console.configure(quiet=quiet)
    for path in paths or ():
        check_folder(path)
    runs = [path for path in paths or () if is_run(path)]
    if not runs:
        show_listing(listing(paths or [runs_folder()], named=bool(paths)), json)
    elif folders := [path for path in paths or () if path not in runs]:
        raise RequestError(
            f"{folders[0]}: no run here, but {runs[0]} is one; give runs to go on with, or folders to look for them in"
        )
    else:
        _go_on(runs, json)


def _go_on(runs: Sequence[Path], as_json: bool) -> None:
    """Go on with one run after the other; when one fails, the others go on.

    Raises:
        SaeError: as the run's own command; for one of several that failed a JobError.
    """
    from sae_cli import console
    from sae_cli.cli.output import as_document, show, write_json
    from sae_cli.stages.resume import go_on

    gc.enable()
    if len(runs) == 1:
        show(go_on(runs[0]), as_json)
        return
    done: list[StageResult] = []
    failed: list[str] = []
    try:
        for run in runs:
            console.log(f"run {len(done) + len(failed) + 1} of {len(runs)}: {run}")
            try:
                done.append(go_on(run))
            except Interrupted:
                raise
            except EXPECTED as error:
                console.error(explain(error)[0])
                failed.append(str(run))
            else:
                show(done[-1], as_json=False) if not as_json else None
    finally:
        if as_json:
            write_json([as_document(result) for result in done])
    if failed:
        raise JobError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")
