"""`sae verify`: whether the files of runs are still what was written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from sae_cli.artifacts.integrity import Damage, file_damage, unlisted_files
from sae_cli.artifacts.manifest import MANIFEST, Parent
from sae_cli.artifacts.survey import BENCHMARKS, EVALUATIONS, PROBES, SHEETS, FoundRun, look_at, measurements_in
from sae_cli.documents import Document
from sae_cli.errors import JobError, RequestError
from sae_cli.jobs.result import Listing
from sae_cli.runs.inventory import find_runs, one_line, readable_bytes, reason, root_of, short
from sae_cli.terminal.progress import Advance, progress

_REPORT = "eval.json"
_DEFAULT = f"{EVALUATIONS}/default"
_PATIENCE = 5
"""How often a run is looked at again that changes while it is looked at."""


class Finding(NamedTuple):
    """Something about a run that is not as it should be.

    Attributes:
        severity: `damage`; `warning`: the run is whole, but something beside it is not; `leftover`: a file too many.
        kind: `missing`, `truncated`, `longer`, `changed`, `unreadable`, `header`, `outside`, `parent`, `report`,
            `text`, `unfinished` or `unlisted`.
        file: relative to the run, or the parent's path; empty for the run as a whole.
        message: what was expected and what was found, or what can be done.
    """

    severity: str
    kind: str
    file: str
    message: str


@dataclass(frozen=True)
class Verdict:
    """What was found out about a run: nothing, if it is what was written."""

    found: FoundRun
    findings: tuple[Finding, ...]
    measurements: tuple[Verdict, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether the run and its evaluations are what was written."""
        return not self._damaged() and all(each.sound for each in self.measurements)

    def damage(self) -> str:
        """What is damaged, in a few words."""
        return ", ".join(self._damaged_files(self.found.directory))

    def document(self) -> Document:
        files = self.found.manifest.files if self.found.manifest else {}
        return {
            "run": str(self.found.directory),
            "status": self.found.status,
            "sound": self.sound,
            "files": len(files),
            "bytes": sum(record.bytes for record in files.values()),
            "findings": [finding._asdict() for finding in self.findings],
            "measurements": [each.document() for each in self.measurements],
        }

    def _damaged_files(self, root: Path) -> list[str]:
        inside = self.found.directory.relative_to(root)
        own = [f"{inside / finding.file} {finding.kind}" for finding in self._damaged()]
        return [*own, *(text for each in self.measurements for text in each._damaged_files(root))]

    def _damaged(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "damage"]


class Verification(NamedTuple):
    """All verdicts, and what is to be shown of them."""

    verdicts: list[Verdict]
    listing: Listing

    def check(self) -> None:
        """Refuse damage.

        Raises:
            JobError: there is some.
        """
        damaged = [each for each in self.verdicts if not each.sound]
        if damaged:
            which = "; ".join(f"{each.found.directory} ({one_line(each.damage())})" for each in damaged)
            raise JobError(f"{len(damaged)} of {len(self.verdicts)} runs damaged: {which}")


class _Subject(NamedTuple):
    """A run and those inside it."""

    found: FoundRun
    measurements: list[FoundRun]


def run(paths: Sequence[Path]) -> Verification:
    """Read every file of the runs in, or below, these folders, and compare it with what was written.

    Raises:
        RequestError: one of them does not exist or holds no run.
    """
    runs = {found.directory.resolve(): found for path in paths for found in _runs_in(path)}
    subjects = [_Subject(found, measurements_in(found.directory)) for found in runs.values()]
    everything = [found for subject in subjects for found in (subject.found, *subject.measurements)]
    total = sum(_bytes(found) for found in everything)
    with progress(total, "verify", unit="bytes") as advance, _Reader(advance) as reader:
        for found in everything:
            reader.begin(found)
        verdicts = [_verdict(subject, reader) for subject in subjects]
    sound = [each.found.directory for each in verdicts if each.sound]
    listing = Listing(
        directories=sound,
        document={"runs": [each.document() for each in verdicts], "damaged": len(verdicts) - len(sound)},
        title=f"{len(sound):,} of {len(verdicts):,} runs are what was written; {readable_bytes(total)} read",
        table=[row for each in verdicts for row in _rows(each, root_of(paths))],
        header=("run", "state", ""),
    )
    return Verification(verdicts, listing)


def _runs_in(path: Path) -> list[FoundRun]:
    if found := find_runs([path], named=path.exists()):
        return found
    raise RequestError(f"{path}: no run here (no {MANIFEST}); give a run directory, or a folder of runs")


def _bytes(found: FoundRun) -> int:
    return sum(record.bytes for record in found.manifest.files.values()) if found.manifest else 0


class _Reader:
    """Reads files in threads; leaving the context early stops them."""

    def __init__(self, advance: Advance) -> None:
        self._show = advance
        self._threads = ThreadPoolExecutor()
        self._one_at_a_time = Lock()
        self._stopped = False
        self._begun: dict[Path, dict[str, Future[Damage | None]]] = {}

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._threads.shutdown(cancel_futures=True)

    def begin(self, found: FoundRun) -> None:
        """Read the files of a run."""
        files = found.manifest.files if found.manifest else {}
        self._begun[found.directory] = {
            name: self._threads.submit(file_damage, found, name, record, self._advance)
            for name, record in files.items()
        }

    def damaged_files(self, found: FoundRun) -> list[Finding]:
        """What is wrong with them; waits for the reading to end."""
        ended = {name: future.result() for name, future in self._begun.pop(found.directory).items()}
        return [Finding("damage", each.kind, name, each.message) for name, each in ended.items() if each]

    def _advance(self, n_bytes: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._one_at_a_time:
            self._show(n_bytes)


def _verdict(subject: _Subject, reader: _Reader) -> Verdict:
    evaluations = [_verdict(_Subject(each, []), reader) for each in subject.measurements]
    found, findings = _as_it_is_now(subject.found, reader)
    if found.manifest:
        findings += [*_beside(found, evaluations), *_unfinished(found), *_parents(found), *_text(found)]
    return Verdict(found, tuple(findings), tuple(evaluations))


def _as_it_is_now(found: FoundRun, reader: _Reader) -> tuple[FoundRun, list[Finding]]:
    """A run and its damage; one that a process works on may change while it is read."""
    findings = reader.damaged_files(found)
    for _ in range(_PATIENCE):
        now = look_at(found.directory) if findings else found
        if now.manifest == found.manifest:
            break
        found = now
        reader.begin(found)
        findings = reader.damaged_files(found)
    if found.manifest is None:
        findings.append(Finding("damage", "unreadable", MANIFEST, found.problem))
    return found, findings


def _unfinished(found: FoundRun) -> Iterator[Finding]:
    if found.status not in ("complete", "running"):
        yield Finding("warning", "unfinished", "", f"{found.status}: {reason(found)}")


def _beside(found: FoundRun, evaluations: Sequence[Verdict]) -> Iterator[Finding]:
    """The copy of the default evaluation's figures, and files that no manifest lists."""
    default = next((each.found for each in evaluations if each.found.directory == found.directory / _DEFAULT), None)
    record = default.manifest.files.get(_REPORT) if default and default.manifest else None
    is_whole = default is not None and default.status == "complete"
    if is_whole and record and (damage := file_damage(found, _REPORT, record, lambda n_bytes: None)):
        severity = "warning" if damage.kind == "missing" else "damage"
        message = f"not as in {_DEFAULT}: {damage.message}; copy {_DEFAULT}/{_REPORT} over it"
        yield Finding(severity, "report", _REPORT, message)
    if found.owner is None:
        for name, what in unlisted_files(found):
            if name != _REPORT or record is None:
                yield Finding("leftover", "unlisted", name, what)


def _parents(found: FoundRun) -> Iterator[Finding]:
    for parent in found.manifest.parents if found.manifest else ():
        if message := _changed(parent, found.directory):
            yield Finding("warning", "parent", parent.path, message)


def _text(found: FoundRun) -> Iterator[Finding]:
    """What has become of the text that a run has read, where it names one of its own."""
    if found.manifest is None or found.status != "complete" or "text" not in found.manifest.facts:
        return
    from sae_cli.activations.text_read import changed_text  # late: it needs torch

    if message := changed_text(found.directory, found.manifest):
        yield Finding("warning", "text", "", message)


def _changed(parent: Parent, child: Path) -> str:
    """What has become of a run that was read, if it is not there as it was.

    The dictionary of an evaluation may have been moved together with it.
    """
    inside = child.parent.name in (EVALUATIONS, SHEETS, BENCHMARKS, PROBES)
    places = [Path(parent.path), *([child.parents[1]] if inside else [])]
    try:
        there = [path for place in places if (path := place / MANIFEST).is_file()]
        as_it_was = any(_sha256(path) == parent.sha256 for path in there)
    except OSError as error:
        return f"this run was read, and cannot be read now: {error.strerror or error}"
    if not there:
        return "this run was read, and is gone"
    return "" if as_it_was else "this run was read, and its manifest has changed since"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows(verdict: Verdict, root: Path, inside: str = "") -> Iterator[tuple[str, ...]]:
    found = verdict.found
    name = f"  {found.directory.relative_to(inside)}" if inside else short(found.directory, root)
    state = "sound" if verdict.sound else "DAMAGED"
    files = found.manifest.files if found.manifest else {}
    size = f"{len(files):,} files, {readable_bytes(_bytes(found))}"
    yield name, state, "; ".join([size, *(each.message for each in verdict.findings if not each.file)])
    for each in verdict.findings:
        if not each.file:
            continue
        what = each.file if each.kind != "parent" else f"from {short(Path(each.file), root)}"
        yield f"{'    ' if inside else '  '}{what}", each.kind, one_line(each.message)
    for each in verdict.measurements:
        yield from _rows(each, root, str(found.directory))
