"""`sae compare`: the directions of dictionaries against each other, with the floors that similarities stand on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import torch

from sae_cli import build
from sae_cli.activations.known_truths import truth_of
from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.compare import CompareConfig
from sae_cli.config.evaluation import Space
from sae_cli.config.paths import TRUTH
from sae_cli.dictionaries.files import load_dictionary
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation import evaluate
from sae_cli.jobs.once import Claim, once
from sae_cli.jobs.result import StageResult
from sae_cli.metrics import VERSION, catalogue
from sae_cli.metrics.figure import Of
from sae_cli.metrics.report import AboutReport, ComparisonReport, ContestantReport, PairReport
from sae_cli.metrics.similarity import (
    MOST_ASSIGNED,
    NearestRows,
    mmcs_figures,
    nearest_both_ways,
    one_to_one,
    quantiles,
    random_floor,
    subspace_floor,
)
from sae_cli.runs.dictionary_run import DictionaryRun, read_dictionary_run
from sae_cli.runs.file_names import COMPARE_FILE, EVAL_FILE, SIMILARITY_FILE
from sae_cli.runs.stored_figures import shows_stored
from sae_cli.seeds import generator
from sae_cli.tensor_types import Float, Int, Tensor
from sae_cli.terminal import console
from sae_cli.terminal.plus_minus import plus_minus


@dataclass(frozen=True)
class Directions:
    """The directions of one contestant.

    Attributes:
        name: run directory, or `truth`.
        rows: one a feature that is alive [A, D].
        number: of each in its dictionary [A].
        about: figures of the dictionary, for the table and the report.
    """

    name: str
    rows: Float[Tensor, "F D"]
    number: Int[Tensor, " F"]
    about: AboutReport


def run(config: CompareConfig, directory: Path) -> StageResult:
    """Compare the dictionary `config.a` with those of `config.b`, and these with each other."""
    return _result(once(Claim(config, directory, doing="comparing"), _compare))


def _compare(claim: Claim[CompareConfig]) -> FinishedRun:
    config = claim.config
    if config.a == TRUTH:
        raise RequestError("a=truth: expected a dictionary's run directory; the truth goes to b=")
    names = [config.a, *config.b]
    sources = {name: _source(name, "a" if name == config.a else "b") for name in names if name != TRUTH}
    space = _check_space(config, list(sources.values()))
    compared = [_truth(sources[config.a]) if name == TRUTH else _directions(sources[name], config) for name in names]
    compared = _mapped(compared, sources, space, config)
    _check_widths(compared)
    floors = floor_generator(config.seed)
    pairs: list[PairReport] = []
    tensors: dict[str, Tensor] = {}
    for (i, a), (j, b) in combinations(enumerate(compared), 2):
        forward, back = nearest_both_ways(a.rows, b.rows)
        pairs.append(_pair((i, j), (a, b), (forward, back), config, floors))
        tensors |= _similarities(f"{i}_{j}", a, b, forward) | _similarities(f"{j}_{i}", b, a, back)
    report: ComparisonReport = {
        "space": space.value,
        "runs": [{"run": each.name, **each.about} for each in compared],
        "pairs": pairs,
        "metrics_version": VERSION,
    }
    with claim.open(parents=[source.run for source in sources.values()]) as claimed:
        claimed.write_tensors(SIMILARITY_FILE, tensors)
        claimed.write_json(COMPARE_FILE, report)
        return claimed.finish(seconds=claim.seconds())


def _source(path: str, key: str) -> DictionaryRun:
    try:
        return read_dictionary_run(path)
    except RequestError as error:
        raise RequestError(f"{key}={error}") from error


def floor_generator(seed: int) -> torch.Generator:
    """Of the random directions; others than those that the dictionary of this seed began with."""
    return generator("floors of similarity", seed)


def _check_space(config: CompareConfig, sources: Sequence[DictionaryRun]) -> Space:
    """The space of the comparison; refused where there is no map to it."""
    sites = {source.card.basis for source in sources}
    synthetic = [source.card.truth is not None for source in sources]
    if TRUTH in config.b and not synthetic[0]:
        raise RequestError(
            "b=truth: expected a= to be a dictionary of data=synthetic or another source whose directions are known"
        )
    space = config.space
    if space is Space.auto:
        space = Space.activations if len(sites) == 1 else Space.resid
    if space is Space.activations:
        if len(sites) > 1 and not all(synthetic):
            raise RequestError(
                f"space=activations: the dictionaries are of {' and '.join(sorted(sites))}, whose dimensions differ; "
                "use space=resid or space=logits"
            )
        return space
    if truths := [source.card.truth for source in sources if source.card.truth]:
        raise RequestError(
            f"space={config.space.value}: {truths[0].called} has no residual stream and no logits in which "
            f"{' and '.join(sorted(sites))} could meet; space=activations compares directions as they are"
        )
    models = sorted({f"{each.path}@{each.revision or 'main'}" for each in (source.model() for source in sources)})
    if len(models) > 1:
        raise RequestError(
            f"space={space.value}: hooks of one model are mapped to one {space.value} space, found the models "
            f"{' and '.join(models)}; compare dictionaries of one hook with space=activations"
        )
    return space


def _directions(source: DictionaryRun, config: CompareConfig) -> Directions:
    dictionary = load_dictionary(source.run, config.verify)
    settings = evaluate.settings_for(source.run.directory, config)
    finished = evaluate.evaluation(source, settings, evaluate.default_name(settings))
    features = evaluate.read_features(finished, dictionary.n_features)
    report = finished.read_json(EVAL_FILE)
    alive = (features["count"] > 0).nonzero()[:, 0]
    if not len(alive):
        raise JobError(f"{source.run.directory}: no feature is alive: there is nothing to compare")
    about: AboutReport = {
        "features": dictionary.n_features,
        "alive": report.get("alive"),
        "l0": report.get("l0"),
        "dense_1": report.get("dense_1"),
        "dense_10": report.get("dense_10"),
        "token_entropy_median": report.get("token_entropy_median"),
        "frequency": quantiles(features["frequency"][alive]),
    }
    if "de_projection" in features:
        about["de_projection"] = quantiles(features["de_projection"][alive])
    return Directions(str(source.run.directory), dictionary.W_dec[alive], alive, about)


def _truth(source: DictionaryRun) -> Directions:
    assert source.card.truth
    truth = truth_of(source.card.truth)
    rows, frequency = truth.directions(), truth.frequencies()
    about: AboutReport = {
        "features": len(rows),
        "alive": len(rows),
        "l0": float(frequency.sum()),
        "dense_1": int((frequency > 0.01).sum()),
        "dense_10": int((frequency > 0.1).sum()),
        "frequency": quantiles(frequency),
    }
    return Directions(TRUTH, rows, torch.arange(len(rows)), about)


def _mapped(
    compared: Sequence[Directions], sources: dict[str, DictionaryRun], space: Space, config: CompareConfig
) -> list[Directions]:
    if space is Space.activations:
        return list(compared)
    own = [sources[name] for name in (config.a, *config.b)]
    model = build.language_model(own[0].model(), own[0].data(), torch.device("cpu"))
    targets = [model.target(build.site(each.site(), model)) for each in own]
    return [
        replace(
            each, rows=target.rows_to_resid(each.rows) if space is Space.resid else target.rows_to_logits(each.rows)
        )
        for each, target in zip(compared, targets, strict=True)
    ]


def _check_widths(compared: Sequence[Directions]) -> None:
    widths = {each.name: each.rows.shape[1] for each in compared}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{width} ({name})" for name, width in widths.items())
        raise RequestError(f"expected dictionaries of one width, found {found}")


def _pair(
    numbers: tuple[int, int],
    both: tuple[Directions, Directions],
    nearest: tuple[NearestRows, NearestRows],
    config: CompareConfig,
    floors: torch.Generator,
) -> PairReport:
    (a, b), (forward, back) = both, nearest
    figures: PairReport = {
        "a": numbers[0],
        "b": numbers[1],
        "a_to_b": mmcs_figures(forward.cosine) | _floors(a.rows, b.rows, floors),
        "b_to_a": mmcs_figures(back.cosine) | _floors(b.rows, a.rows, floors),
        "one_to_one": None,
    }
    most = max(len(a.rows), len(b.rows))
    if config.one_to_one and most <= MOST_ASSIGNED:
        assigned = one_to_one(a.rows, b.rows)
        figures["one_to_one"] = {"mean": float(assigned.mean()), "share_0.9": float((assigned > 0.9).float().mean())}
    elif config.one_to_one:
        console.log(f"no one-to-one assignment: {most:,} features, more than {MOST_ASSIGNED:,}")
    return figures


def _floors(a: Float[Tensor, "F D"], b: Float[Tensor, "F2 D"], floors: torch.Generator) -> dict[str, float]:
    isotropic, isotropic_sd = random_floor(a, len(b), floors)
    subspace, subspace_sd = subspace_floor(a, b, floors)
    return {
        "floor_random": isotropic,
        "floor_random_sd": isotropic_sd,
        "floor_subspace": subspace,
        "floor_subspace_sd": subspace_sd,
    }


def _similarities(name: str, a: Directions, b: Directions, nearest: NearestRows) -> dict[str, Tensor]:
    """For each alive feature of a: its number, the cosine with its nearest in b, and that one's number."""
    return {
        f"{name}.feature": a.number,
        f"{name}.cosine": nearest.cosine,
        f"{name}.nearest": b.number[nearest.index],
    }


@shows_stored
def _result(finished: FinishedRun) -> StageResult:
    report: ComparisonReport = finished.read_json(COMPARE_FILE)
    first, rows = report["pairs"][0], _matrix_rows if len(report["runs"]) > 2 else _pair_rows
    figures = {"mmcs": first["a_to_b"]["mmcs"], "mmcs_back": first["b_to_a"]["mmcs"]}
    return StageResult(
        directory=finished.directory,
        title=f"compare (directions in {report['space']})",
        document={"command": "compare", "compare": report, "figures": figures},
        table=[*_about_rows(report["runs"]), *rows(report), ("run", str(finished.directory))],
    )


def _about_rows(runs: Sequence[ContestantReport]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("", "alive", "L0", "> 10 %", "median frequency", "median D/E", "run")]
    for number, each in enumerate(runs):
        projection = each.get("de_projection", {}).get("q50")
        rows.append((
            f"[{number}]",
            f"{each['alive']:,} of {each['features']:,}",
            f"{each['l0']:.1f}",
            f"{each['dense_10']:,}",
            f"{each['frequency']['q50']:.2g}",
            "" if projection is None else f"{projection:.2f}",
            each["run"],
        ))  # fmt: skip
    return rows


def _pair_rows(report: ComparisonReport) -> list[tuple[str, ...]]:
    known = catalogue.figures(Of.PAIR)
    shown = [known[key].short for key in ("mmcs", "floor_random", "floor_subspace", "q50", "share_0.9")]
    rows: list[tuple[str, ...]] = [("from -> to", *shown, "1:1")]
    for pair in report["pairs"]:
        matched = pair["one_to_one"]
        for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
            each = pair[key]
            rows.append((
                f"[{start}] -> [{end}]",
                f"{each['mmcs']:.3f}",
                plus_minus(each["floor_random"], each["floor_random_sd"], 3),
                plus_minus(each["floor_subspace"], each["floor_subspace_sd"], 3),
                f"{each['q50']:.3f}",
                f"{each['share_0.9']:.1%}",
                f"{matched['mean']:.3f}" if matched else "",
            ))  # fmt: skip
    return rows


def _matrix_rows(report: ComparisonReport) -> list[tuple[str, ...]]:
    """MMCS with, in brackets, the higher of the two floors."""
    numbers = range(len(report["runs"]))
    cells = {}
    for pair in report["pairs"]:
        for start, end, key in ((pair["a"], pair["b"], "a_to_b"), (pair["b"], pair["a"], "b_to_a")):
            each = pair[key]
            floor = max(each["floor_random"], each["floor_subspace"])
            cells[start, end] = f"{each['mmcs']:.3f} ({floor:.3f})"
    header = ("MMCS (floor)", *(f"-> [{number}]" for number in numbers))
    return [header, *((f"[{i}]", *(cells.get((i, j), "") for j in numbers)) for i in numbers)]
