"""`sae resume`: the runs that were stopped, and going on with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_cli.artifacts.survey import FoundRun, look_at, measurements_in
from sae_cli.commands import module_of
from sae_cli.config.paths import placed
from sae_cli.config.stored import CONFIG_FILE, read_config
from sae_cli.documents import Document
from sae_cli.errors import JobError, RequestError
from sae_cli.jobs.result import Listing, StageResult
from sae_cli.runs.inventory import find_runs, one_line, reason, root_of, short, state_document, status_text
from sae_cli.runs.progress import RESUMABLE, progress_of
from sae_cli.terminal import console


def listing(paths: Sequence[Path], named: bool = True) -> Listing:
    """The unfinished runs below these folders; on stdout those that can be resumed now.

    Raises:
        RequestError: one of the folders does not exist.
    """
    unfinished = [found for found in _all_runs(paths, named) if found.manifest and found.status != "complete"]
    where, ready = ", ".join(map(str, paths)), [found.directory for found in unfinished if _can_resume(found)]
    count = f"{len(unfinished):,} unfinished run{'s' * (len(unfinished) != 1)} in {where}"
    hint = "; resume with sae resume RUN" if ready else ""
    return Listing(
        directories=ready,
        document={"runs": [_document(found) for found in unfinished]},
        title=f"{count}{hint}" if unfinished else f"no unfinished runs in {where}",
        table=[_row(found, root_of(paths)) for found in unfinished],
        header=("run", "command", "how far", "saved", "why"),
    )


def resume_run(directory: Path) -> StageResult:
    """Go on with an unfinished run, with the settings that it was begun with; a finished one is found.

    Raises:
        RequestError: runs of this command do not go on where they were stopped.
        JobError: its manifest or its configuration cannot be read, or what its command raises.
    """
    found = look_at(directory)
    if found.manifest is None:
        raise JobError(found.problem)
    command = found.manifest.command
    if command not in RESUMABLE:
        if found.status == "complete":
            console.log(f"already finished: {directory}")
            return StageResult(directory=directory, document={"command": command})
        raise RequestError(f"{directory}: a {command} run does not go on where it was stopped; {_begin_again(command)}")
    if not (directory / CONFIG_FILE).is_file():
        raise JobError(f"{directory}: stopped before its {CONFIG_FILE} was written; {_begin_again(command)}")
    config = placed(read_config(directory, command), found.manifest.settings)
    config.overwrite = False  # it was meant for what was there before
    return module_of(command).run(config, directory)


def _all_runs(paths: Sequence[Path], named: bool) -> Iterator[FoundRun]:
    for found in find_runs(paths, named):
        yield found
        yield from measurements_in(found.directory)


def _can_resume(found: FoundRun) -> bool:
    """Whether a process could resume the run now."""
    known = found.manifest is not None and found.manifest.command in RESUMABLE
    return known and found.status != "running" and (found.directory / CONFIG_FILE).is_file()


def _document(found: FoundRun) -> Document:
    progress = progress_of(found)
    return {
        **state_document(found),
        "progress": progress.document() if progress else None,
        "can_go_on": _can_resume(found),
    }


def _row(found: FoundRun, root: Path) -> tuple[str, ...]:
    progress, command = progress_of(found), found.manifest.command if found.manifest else ""
    return (
        short(found.directory, root),
        command,
        progress.text() if progress else _begin_again(command),
        progress.saved_text() if progress else "",
        one_line(status_text(found) if found.status == "running" else reason(found)),
    )


def _begin_again(command: str) -> str:
    return f"run its sae {command} command again, which begins it again"
