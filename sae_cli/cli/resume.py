"""`sae resume`: what was stopped, and going on with it."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path

from sae_cli.cli.command import Quiet
from sae_cli.cli.errors import EXPECTED, explain
from sae_cli.cli.list_runs import AsJson, Paths
from sae_cli.config.location import runs_folder
from sae_cli.errors import Interrupted, JobError, RequestError
from sae_cli.jobs.result import StageResult


def resume(paths: Paths = None, json: AsJson = False, quiet: Quiet = False) -> None:
    """Go on with stopped runs, or list them.

    Run directories are resumed, one after the other, each with the settings that it was begun with. Of a folder of
    runs (SAE_RUNS, else runs) it is shown which are unfinished and how far they are; stdout has those that can be gone
    on with now: sae resume | xargs sae resume
    """
    from sae_cli.cli.output import show_listing
    from sae_cli.commands.resume import listing
    from sae_cli.runs.inventory import check_folder, is_run
    from sae_cli.terminal import console

    console.configure(quiet=quiet)
    for path in paths or ():
        check_folder(path)
    runs = [path for path in paths or () if is_run(path)]
    if not runs:
        show_listing(listing(paths or [Path(runs_folder())], named=bool(paths)), json)
    elif folders := [path for path in paths or () if path not in runs]:
        raise RequestError(
            f"{folders[0]}: no run here, but {runs[0]} is one; give runs to resume, or folders to look for them in"
        )
    else:
        _resume_all(runs, json)


def _resume_all(runs: Sequence[Path], as_json: bool) -> None:
    """Go on with one run after the other; when one fails, the others go on.

    Raises:
        SaeError: as the run's own command; for one of several that failed a JobError.
    """
    from sae_cli.cli.output import as_document, show, write_json
    from sae_cli.commands.resume import resume_run
    from sae_cli.terminal import console

    gc.enable()
    if len(runs) == 1:
        show(resume_run(runs[0]), as_json)
        return
    done: list[StageResult] = []
    failed: list[str] = []
    try:
        for number, run in enumerate(runs, start=1):
            console.log(f"run {number} of {len(runs)}: {run}")
            try:
                result = resume_run(run)
            except Interrupted:
                raise
            except EXPECTED as error:
                console.error(explain(error)[0])
                failed.append(str(run))
                continue
            done.append(result)
            if not as_json:
                show(result, as_json=False)
    finally:
        if as_json:
            write_json([as_document(result) for result in done])
    if failed:
        raise JobError(f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}")
