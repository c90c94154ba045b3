"""`sae report`: runs as one page that can be looked at, and taken along."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sae_cli.artifacts.files import check_writable, write_bytes
from sae_cli.artifacts.manifest import library_versions
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.artifacts.survey import REPORT
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.documents import Document
from sae_cli.errors import RequestError
from sae_cli.reports.page import is_report, page
from sae_cli.reports.sections.about import about, headline
from sae_cli.reports.sections.comparison import comparison
from sae_cli.reports.sections.concepts import best_concepts, concepts
from sae_cli.reports.sections.contrasts import contrast
from sae_cli.reports.sections.curve import curve
from sae_cli.reports.sections.densities import density_cloud, distributions, frequencies
from sae_cli.reports.sections.feature_pages import feature_pages
from sae_cli.reports.sections.figures import (
    ablations,
    baselines,
    equivalent,
    figures,
    joint_figures,
    optional,
    references,
)
from sae_cli.reports.sections.frontier import frontier
from sae_cli.reports.sections.trajectories import trajectories
from sae_cli.reports.sources import Subject, common_evaluation, parent_of, subject
from sae_cli.reports.values import FeaturePages, Report, Section
from sae_cli.runs.inventory import find_runs, readable_bytes, reason, status_text
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.terminal import console

_BEGINNING = 4096
"""Bytes of a file in which a report says that it is one."""


class Written(NamedTuple):
    """A report on the disk: where, of which runs, and how large."""

    path: Path
    runs: list[Path]
    bytes: int

    def document(self) -> Document:
        """For `--json`."""
        return {"report": str(self.path), "runs": [str(each) for each in self.runs], "bytes": self.bytes}


def run(paths: Sequence[Path], out: Path | None = None) -> Written:
    """Write the report of the finished runs in, or below, these folders.

    Args:
        paths: run directories, or folders of runs.
        out: the file; by default `report.html` in the run, or in the folder that all runs are in.

    Raises:
        RequestError: there is no finished run, or something else is where the report should go.
    """
    directories = _finished(paths)
    place = out or _place(directories)
    check_place(place)
    check_writable(place.parent, "write the report elsewhere: --out FILE")
    content = page(report_of(directories, place))
    written = write_bytes(place, content)
    console.log(f"{len(directories):,} run{'s' * (len(directories) > 1)}, {readable_bytes(written.bytes)}: {place}")
    return Written(place, directories, written.bytes)


def report_of(directories: Sequence[Path], out: Path) -> Report:
    """The report of one run, or of several."""
    if len(directories) == 1:
        found = subject(directories[0])
        return _of_one(found.run, found)
    return _of_several(directories, out)


def check_place(place: Path) -> None:
    """Refuse to replace what is no report.

    Raises:
        RequestError: something else is there.
    """
    if not place.exists():
        return
    if place.is_file():
        with open(place, "rb") as file:
            if is_report(file.read(_BEGINNING)):
                return
    what = "a file that is no report" if place.is_file() else "a folder"
    raise RequestError(
        f"{place}: expected a report to replace, or nothing, found {what}; choose another name with --out"
    )


def _finished(paths: Sequence[Path]) -> list[Path]:
    """The finished runs; what is not finished is said."""
    found = find_runs(paths)
    for each in found:
        if each.status != "complete":
            why = f": {reason(each)}" if reason(each) else ""
            console.warn(f"{each.directory}: left out, {status_text(each)}{why}")
    finished = [each.directory for each in found if each.status == "complete"]
    if not finished:
        where = ", ".join(map(str, paths))
        raise RequestError(f"{where}: no finished run here; give a run directory, or a folder of runs")
    return finished


def _place(directories: Sequence[Path]) -> Path:
    if len(directories) == 1:
        return directories[0] / REPORT
    common = Path(os.path.commonpath([each.absolute() for each in directories]))
    return Path(os.path.relpath(common)) / REPORT


@shows_stored
def _of_one(run: FinishedRun, found: Subject) -> Report:
    match found.command:
        case "compare":
            sections, pages = [comparison(run)], None
        case "contrast":
            sections, pages = [contrast(run)], None
        case "eval":
            report = found.evaluations[0].figures
            shown = joint_figures(report) if "dictionaries" in report else figures(found)
            sections, pages = optional([shown, references(report)]), None
        case _ if found.has_dictionary:
            sections, pages = _of_dictionary(found)
        case _:
            sections, pages = [], None
    return Report(
        title=str(run.directory),
        subtitle=headline(found),
        sections=[about(found), *sections],
        features=pages,
        footer=_footer(),
    )


def _of_dictionary(found: Subject) -> tuple[list[Section], FeaturePages | None]:
    sections = [figures(found), curve(found.run)]
    if found.evaluations and "frequency" in found.evaluations[0].features:
        statistics, parent = _statistics(found), parent_of(found)
        before = _plain(parent) if parent and parent.evaluations else None
        below = (found.evaluations[0].figures.get("rare") or {}).get("below", 1e-4)
        sections += [
            frequencies(found, statistics, before or None),
            density_cloud(statistics, below),
            trajectories(found),
            distributions(statistics),
        ]
    sections += [baselines(found), equivalent(found), ablations(found), *map(concepts, found.probes)]
    if found.pages:
        return optional(sections), feature_pages(found.pages[0], *map(best_concepts, found.probes))
    if found.evaluations and not found.is_of_a_model:
        return optional(sections), None
    missing = [f"No feature pages: sae features {found.run.directory}"]
    return optional([*sections, Section(name="features", title="Features", missing=missing)]), None


def _of_several(directories: Sequence[Path], out: Path) -> Report:
    like = common_evaluation(directories)
    found = [_with_figures(each.run, each) for each in (subject(directory, like) for directory in directories)]
    dictionaries = _with_parents([each for each in found if each.has_dictionary])
    sections = frontier(dictionaries, out) if dictionaries else []
    comparisons = [each.run for each in found if each.command == "compare"]
    sections += [_compared(run, f"similarity{number}") for number, run in enumerate(comparisons)]
    contrasts = [each.run for each in found if each.command == "contrast"]
    sections += [_contrasted(run, f"contrast{number}") for number, run in enumerate(contrasts)]
    shown = ("compare", "contrast")
    others = [str(each.run.directory) for each in found if not each.has_dictionary and each.command not in shown]
    if others:
        sections.append(Section(name="others", title="Other runs", missing=[f"sae report {each}" for each in others]))
    title = os.path.commonpath([each.absolute() for each in directories])
    return Report(title=title, subtitle=f"{len(directories):,} runs", sections=sections, footer=_footer())


@shows_stored
def _with_figures(run: FinishedRun, found: Subject) -> Subject:
    """The subject, once its figures were read."""
    for each in found.evaluations:
        _ = each.figures
    return found


@shows_stored
def _compared(run: FinishedRun, name: str) -> Section:
    return comparison(run, name, f"Similarity: {run.directory.name}")


@shows_stored
def _contrasted(run: FinishedRun, name: str) -> Section:
    return contrast(run, name, f"Contrast: {run.directory.name}")


def _with_parents(dictionaries: Sequence[Subject]) -> list[Subject]:
    """With those that pruned ones were made of."""
    known = {each.run.directory.resolve(): each for each in dictionaries}
    for each in dictionaries:
        if (parent := parent_of(each)) and parent.run.directory.resolve() not in known:
            known[parent.run.directory.resolve()] = parent
    return list(known.values())


def _statistics(found: Subject) -> dict[str, np.ndarray]:
    """Those of the evaluation, and the norms of the dictionary's rows."""
    dictionary = load_dictionary(found.run)
    statistics = _plain(found)
    if len(statistics["frequency"]) != dictionary.n_features:
        raise ValueError(
            f"statistics of {len(statistics['frequency'])} features, {dictionary.n_features} in the dictionary"
        )
    statistics["encoder_norm"] = dictionary.W_enc.norm(dim=1).numpy()
    statistics["decoder_norm"] = dictionary.W_dec.norm(dim=1).numpy()
    return statistics


def _plain(found: Subject) -> dict[str, np.ndarray]:
    return {name: each.numpy() for name, each in found.evaluations[0].features.items()}


def _footer() -> str:
    version = library_versions()["sae-cli"]
    return f"Written by sae {version}. Numbers and their definitions are those of the files that are named above."
