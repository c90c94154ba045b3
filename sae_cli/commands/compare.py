"""`sae compare`: the features of dictionaries against each other, with the floors that similarities stand on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.evaluation import By
from sae_cli.config.paths import TRUTH
from sae_cli.errors import RequestError
from sae_cli.evaluation.contestants import AnyContestant, Contestant, contestant, true_contestant
from sae_cli.evaluation.similar import OneWay, Similar, found_again
from sae_cli.evaluation.similar_effects import similar_effects
from sae_cli.evaluation.similar_firing import similar_firing, subjects
from sae_cli.evaluation.similar_rows import checked_space, floor_generator, rows_of, similar_rows
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION, catalogue
from sae_cli.metrics.comparison_lines import BANDS, floor_text, floors_of, what_by
from sae_cli.metrics.figure import Of
from sae_cli.metrics.report import BandReport, ComparisonReport, ContestantReport
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import COMPARE_FILE, SIMILARITY_FILE
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.tensor_types import Tensor

_FOUND_IN = "found_in"


def run(config: CompareConfig, directory: Path) -> StageResult:
    """Compare the dictionary `config.a` with those of `config.b`, and these with each other."""
    return _result(once(Claim(config, directory, doing="comparing"), _compare))


def _compare(claim: Claim[CompareConfig]) -> FinishedRun:
    config = claim.config
    if config.a == TRUTH:
        raise RequestError("a=truth: expected a dictionary's run directory; the truth goes to b=")
    names = [config.a, *config.b]
    sources = {name: _source(name, "a" if name == config.a else "b") for name in names if name != TRUTH}
    first = sources[config.a].card.truth
    if TRUTH in names and not first:
        raise RequestError(
            "b=truth: expected a= to be a dictionary of data=synthetic or another source whose directions are known"
        )
    space = checked_space(config, list(sources.values())) if config.by.of_rows else None
    compared: list[AnyContestant] = [
        true_contestant(first) if first and name == TRUTH else contestant(sources[name], config) for name in names
    ]
    if space:
        rows, floors = rows_of(compared, space, config.by), floor_generator(config.seed)
        pairs = {(i, j): similar_rows(rows[i], rows[j], config, floors) for i, j in _pairs(compared)}
    else:
        pairs = _by_what_they_do([each for each in compared if isinstance(each, Contestant)], config)
    shares, tensors = _found_again(compared, pairs, config)
    report: ComparisonReport = {
        "by": config.by.value,
        "matched_above": config.matched_above,
        "runs": [_about(each, share) for each, share in zip(compared, shares, strict=True)],
        "pairs": [
            found.report((i, j), (compared[i].frequency, compared[j].frequency), config.matched_above)
            for (i, j), found in pairs.items()
        ],
        "metrics_version": VERSION,
    }
    if space:
        report["space"] = space.value
    for (i, j), found in pairs.items():
        tensors |= _similarities(f"{i}_{j}", compared[i], compared[j], found.forward)
        tensors |= _similarities(f"{j}_{i}", compared[j], compared[i], found.back)
    with claim.open(parents=[source.run for source in sources.values()]) as claimed:
        claimed.write_tensors(SIMILARITY_FILE, tensors)
        claimed.write_json(COMPARE_FILE, report)
        return claimed.finish(seconds=claim.seconds())


def _about(each: AnyContestant, universal: float | None) -> ContestantReport:
    report: ContestantReport = {"run": each.name, **each.about}
    if universal is not None:
        report["universal"] = universal
    return report


def _source(path: str, key: str) -> DictionaryRun:
    try:
        return read_dictionary_run(path)
    except RequestError as error:
        raise RequestError(f"{key}={error}") from error


def _pairs(compared: Sequence[AnyContestant]) -> list[tuple[int, int]]:
    return list(combinations(range(len(compared)), 2))


def _by_what_they_do(compared: Sequence[Contestant], config: CompareConfig) -> dict[tuple[int, int], Similar]:
    read = subjects(compared, config)
    firing = similar_firing(compared, read, config)
    return firing if config.by is By.activations else similar_effects(compared, read, firing, config)


def _found_again(
    compared: Sequence[AnyContestant], pairs: Mapping[tuple[int, int], Similar], config: CompareConfig
) -> tuple[list[float | None], dict[str, Tensor]]:
    """For each dictionary the share of its features that are found again in all others but one at most, where there are
    several; and for each feature in how many it is."""
    shares: list[float | None] = []
    tensors: dict[str, Tensor] = {}
    for number, each in enumerate(compared):
        ways = [found.forward for (a, _), found in pairs.items() if a == number]
        ways += [found.back for (_, b), found in pairs.items() if b == number]
        found, looked = found_again(len(each.number), ways, config.matched_above)
        tensors[f"{number}.feature"], tensors[f"{number}.{_FOUND_IN}"] = each.number, found
        everywhere = found[looked > 0] >= len(compared) - 2
        shares.append(float(everywhere.double().mean()) if len(compared) > 2 else None)
    return shares, tensors


def _similarities(name: str, a: AnyContestant, b: AnyContestant, way: OneWay) -> dict[str, Tensor]:
    """For each living feature of a that was looked at: its number, its similarity with its nearest in b, and that one's
    number."""
    return {
        f"{name}.feature": a.number[way.of],
        f"{name}.cosine": way.nearest.cosine,
        f"{name}.nearest": b.number[way.nearest.index],
    }


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    report: ComparisonReport = finished.read_json(COMPARE_FILE)
    first, rows = report["pairs"][0], _matrix_rows if len(report["runs"]) > 2 else _pair_rows
    figures = {
        "mmcs": first["a_to_b"]["mmcs"],
        "mmcs_back": first["b_to_a"]["mmcs"],
        "matched": first["a_to_b"].get("matched"),
    }
    return StageResult(
        directory=finished.directory,
        title=f"compare ({what_by(report)})",
        document={"command": "compare", "compare": report, "figures": figures},
        table=[*_about_rows(report["runs"]), *rows(report), ("run", str(finished.directory))],
    )


def _about_rows(runs: Sequence[ContestantReport]) -> list[tuple[str, ...]]:
    several = any("universal" in each for each in runs)
    rows: list[tuple[str, ...]] = [
        ("", "alive", "L0", "> 10 %", "median frequency", "median D/E", *(["universal"] if several else []), "run")
    ]
    for number, each in enumerate(runs):
        projection = each.get("de_projection", {}).get("q50")
        rows.append((
            f"[{number}]",
            f"{each['alive']:,} of {each['features']:,}",
            f"{each['l0']:.1f}",
            f"{each['dense_10']:,}",
            f"{each['frequency']['q50']:.2g}",
            "" if projection is None else f"{projection:.2f}",
            *([f"{each['universal']:.1%}"] if "universal" in each else []),
            each["run"],
        ))  # fmt: skip
    return rows


def _pair_rows(report: ComparisonReport) -> list[tuple[str, ...]]:
    known, floors = catalogue.figures(Of.PAIR), floors_of(report)
    found = [key for key in ("q50", "share_0.9", "matched") if key in report["pairs"][0]["a_to_b"]]
    header = ("from -> to", *(known[key].short for key in ("mmcs", *floors, *found)), "1:1")
    bands: list[tuple[str, ...]] = []
    rows: list[tuple[str, ...]] = [header]
    for pair in report["pairs"]:
        one_to_one = pair["one_to_one"]
        for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
            each, way = pair[key], f"[{start}] -> [{end}]"
            rows.append((
                way,
                known["mmcs"].text(each["mmcs"]),
                *(floor_text(each, floor) for floor in floors),
                *(known[name].text(each[name]) for name in found),
                f"{one_to_one['mean']:.3f}" if one_to_one else "",
            ))  # fmt: skip
            of_bands = pair.get("a_to_b_by_frequency" if key == "a_to_b" else "b_to_a_by_frequency")
            bands += [(way, *(_band_text(band) for band in of_bands))] if of_bands else []
    return [*rows, *([("found again, by frequency", *(name for _, _, name in BANDS)), *bands] if bands else [])]


def _band_text(band: BandReport) -> str:
    return "" if band["matched"] is None else f"{band['matched']:.1%} of {band['features']:,}"


def _matrix_rows(report: ComparisonReport) -> list[tuple[str, ...]]:
    """The mean of the largest similarities with, in brackets, the highest of its floors."""
    numbers, floors = range(len(report["runs"])), floors_of(report)
    cells = {}
    for pair in report["pairs"]:
        for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
            each = pair[key]
            floor = max((each[name] for name in floors if name in each), default=None)
            cells[start, end] = f"{each['mmcs']:.3f}" + ("" if floor is None else f" ({floor:.3f})")
    header = ("MMCS (floor)", *(f"-> [{number}]" for number in numbers))
    return [header, *((f"[{i}]", *(cells.get((i, j), "") for j in numbers)) for i in numbers)]
