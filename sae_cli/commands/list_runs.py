"""`sae list`: the runs below some folders, what state they are in and what they have found out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sae_cli.jobs.result import Listing
from sae_cli.runs.inventory import (
    Summary,
    figures_text,
    find_runs,
    one_line,
    readable_bytes,
    reason,
    root_of,
    short,
    status_text,
    summary,
)


def run(paths: Sequence[Path], named: bool = True) -> Listing:
    """List the runs below these folders; as `find_runs`."""
    summaries = [summary(found) for found in find_runs(paths, named)]
    count = f"{len(summaries):,} run{'s' * (len(summaries) != 1)} in {', '.join(map(str, paths))}"
    size = readable_bytes(sum(each.bytes for each in summaries))
    return Listing(
        directories=[each.found.directory for each in summaries],
        document={"runs": [each.document() for each in summaries]},
        title=f"{count}, {size}" if summaries else f"no runs in {', '.join(map(str, paths))}",
        table=[row for each in summaries for row in _rows(each, root_of(paths))],
        header=("run", "command", "status", "figures", "size"),
    )


def _rows(each: Summary, root: Path) -> Iterator[tuple[str, ...]]:
    yield _row(short(each.found.directory, root), each)
    for parent in each.found.manifest.parents if each.found.manifest else ():
        yield (f"  from {short(Path(parent.path), root)}",)
    for evaluation in each.measurements:
        yield _row(f"  {evaluation.found.directory.relative_to(each.found.directory)}", evaluation)


def _row(name: str, each: Summary) -> tuple[str, ...]:
    manifest = each.found.manifest
    figures = figures_text(each.figures)
    if figures and each.definitions:
        figures += f" (by {each.definitions})"
    said = [each.progress.text() if each.progress else "", reason(each.found), figures]
    return (
        name,
        manifest.command if manifest else "",
        status_text(each.found),
        one_line("; ".join(part for part in said if part)),
        readable_bytes(each.bytes),
    )
