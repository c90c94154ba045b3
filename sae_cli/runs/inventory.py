"""The runs below some folders: what state they are in, and their most telling figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sae_cli.artifacts.json_document import read_document
from sae_cli.artifacts.manifest import MANIFEST, Manifest
from sae_cli.artifacts.survey import FoundRun, look_at, measurements_in, run_directories, size_of
from sae_cli.documents import Document, Facts, is_array, is_document
from sae_cli.errors import JobError, RequestError
from sae_cli.metrics.catalogue import short_name
from sae_cli.runs.definitions import UNDEFINED, VERSIONED, is_undefined, other_version
from sae_cli.runs.file_names import BENCH_FILE, COMPARE_FILE, EVAL_FILE, PROBE_FILE
from sae_cli.runs.progress import Progress, progress_of
from sae_cli.terminal import console

Figures = dict[str, float | int | None]
"""By name; None for one that does not exist for this run."""

_OF_MANIFEST = {
    "harvest": {"tokens": "tokens", "width": "width"},
    "train": {"l0": "held_out_l0", "fvu": "held_out_fvu", "dead": "dead", "never fired": "never_fired"},
    "prune-high-freq": {"killed": "killed"},
    "randomize-weights": {"changed": "changed", "kept": "kept"},
}
"""The figures of a command, by the name of the fact in its manifest."""

_OF_EVALUATION = ("l0", "fvu", "loss_recovered", "ce_increase", "dead")
_OF_COMPARISON = ("mmcs", "floor_random")
_OF_PROBE = ("concepts", "auroc", "auroc_token")
_OF_BENCHMARK = ("l0", "explained_variance", "ce_loss_score")


@dataclass(frozen=True)
class Summary:
    """A run at a glance.

    Attributes:
        found: the run.
        figures: the most telling ones.
        progress: how far it is, where it is unfinished and can be resumed.
        bytes: of all its files.
        definitions: by which version of the definitions the figures are, where that is another than this one's.
        measurements: those inside it: evaluations and feature pages.
    """

    found: FoundRun
    figures: Figures
    progress: Progress | None
    bytes: int
    definitions: str
    measurements: tuple[Summary, ...] = ()

    def document(self) -> Document:
        manifest = self.found.manifest
        return {
            **state_document(self.found),
            "parents": [parent.path for parent in manifest.parents] if manifest else [],
            "figures": self.figures,
            "figures_by": self.definitions or None,
            "progress": self.progress.document() if self.progress else None,
            "bytes": self.bytes,
            "measurements": [each.document() for each in self.measurements],
        }


def find_runs(paths: Sequence[Path], named: bool = True) -> list[FoundRun]:
    """The runs below these folders, or which these folders are, each once; the folders in the order that is given.

    Args:
        paths: the folders.
        named: they were asked for, so they must be there.

    Raises:
        RequestError: one of them is not.
    """
    directories: dict[Path, Path] = {}
    for path in paths:
        if named or path.exists():
            check_folder(path)
        for directory in run_directories(path, console.warn_once):
            directories.setdefault(directory.resolve(), directory)
    return [look_at(directory) for directory in directories.values()]


def check_folder(path: Path) -> None:
    """Refuse a path at which there is nothing to look for runs in.

    Raises:
        RequestError: it does not exist, or is a file.
    """
    if not path.is_dir():
        what = "expected a folder, found a file" if path.exists() else "no such folder"
        raise RequestError(f"{path}: {what}; give a run directory, or a folder of runs (SAE_RUNS or runs)")


def is_run(path: Path) -> bool:
    """Whether there is a run in exactly this folder."""
    return (path / MANIFEST).is_file()


def summary(found: FoundRun) -> Summary:
    """What is known about a run, without reading more than a few small files."""
    report = _report(found.directory, found.manifest) if found.manifest else {}
    return Summary(
        found=found,
        figures=_figures(found.manifest, report) if found.manifest else {},
        definitions=other_version(report, found.manifest.command) if found.manifest and report else "",
        progress=progress_of(found),
        bytes=size_of(found.directory),
        measurements=tuple(summary(each) for each in measurements_in(found.directory)),
    )


def reason(found: FoundRun) -> str:
    """Why a run is not complete, as far as that is known."""
    if found.manifest is None:
        return found.problem
    if found.status == "stopped":
        return "its process was killed, or the machine went down"
    return found.manifest.reason if found.status == "failed" else ""


def state_document(found: FoundRun) -> Document:
    """What a run is and what state it is in, for `--json`."""
    return {
        "run": str(found.directory),
        "command": found.manifest.command if found.manifest else None,
        "status": found.status,
        "reason": reason(found),
        "owner": found.owner._asdict() if found.owner else None,
    }


def status_text(found: FoundRun) -> str:
    """The status, and of a run that is worked on, by whom."""
    if found.owner and found.status == "running":
        return f"running {found.owner.pid}@{found.owner.host}"
    return found.status


def readable_bytes(n_bytes: int) -> str:
    """`17 kB`: a number of bytes with three digits."""
    size, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:,.0f} {unit}"


def root_of(paths: Sequence[Path]) -> Path:
    """The folder that runs are named from where people read: the one that is listed, else the current one."""
    return paths[0] if len(paths) == 1 and not is_run(paths[0]) else Path()


def short(path: Path, root: Path) -> str:
    """A path as seen from a folder, if it is below that."""
    inner, outer = path.absolute(), root.absolute()
    return str(inner.relative_to(outer)) if inner.is_relative_to(outer) else str(path)


def one_line(text: str) -> str:
    return " ".join(text.split())


def figures_text(figures: Mapping[str, float | int | None]) -> str:
    """`L0 23.8, FVU 0.198`."""
    shown = (f"{short_name(name)} {_shown(value)}" for name, value in figures.items())
    return ", ".join(shown)


def _shown(value: float | None) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _report(directory: Path, manifest: Manifest) -> Document:
    """The report that the figures of a run are from, where it has one."""
    name = VERSIONED.get(manifest.command)
    return _read(directory / name, manifest) if name in (EVAL_FILE, COMPARE_FILE, BENCH_FILE, PROBE_FILE) else {}


def _figures(manifest: Manifest, report: Facts) -> Figures:
    match manifest.command:
        case "eval":
            undefined = {key: None for key in _OF_EVALUATION if is_undefined(report, key)}
            found = {**undefined, **_numbers(report, {key: key for key in _OF_EVALUATION})}
            return {key: found[key] for key in _OF_EVALUATION if key in found}
        case "compare":
            pairs = report.get("pairs")
            first = pairs[0] if is_array(pairs) and pairs else None
            found = first.get("a_to_b") if is_document(first) else None
            return _numbers(found, {key: key for key in _OF_COMPARISON})
        case "bench":
            found = report.get("figures")
            return _numbers(found, {key: key for key in _OF_BENCHMARK}) if is_document(found) else {}
        case "probe":
            found = report.get("figures")
            return _numbers(found, {key: key for key in _OF_PROBE}) if is_document(found) else {}
        case command:
            return _numbers(_defined(manifest), _OF_MANIFEST.get(command, {}))


def _defined(manifest: Manifest) -> Document:
    """The facts without a count of dead features that earlier versions stored before there could be one."""
    tokens, dead_after = manifest.facts.get("tokens"), manifest.settings.get("train.dead_after")
    early = isinstance(tokens, int) and isinstance(dead_after, int) and tokens < dead_after
    return {key: value for key, value in manifest.facts.items() if not (early and key == "dead")}


def _numbers(found: object, names: Mapping[str, str]) -> Figures:
    """Those of the figures that are there, and are numbers."""
    values = {name: found.get(key) for name, key in names.items()} if is_document(found) else {}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _read(path: Path, manifest: Manifest) -> Document:
    """A report that the manifest lists; nothing, where it cannot be read."""
    try:
        found: object = read_document(path, manifest.files[path.name]) if path.name in manifest.files else {}
    except (JobError, OSError) as error:
        console.warn(f"no figures: {error}")
        return {}
    return found if is_document(found) else {}
