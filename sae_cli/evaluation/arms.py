"""The dictionaries of a contrast: read, put together by seed, measured on the same rows of text, and their figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sae_cli.artifacts.stored_run import FinishedRun
from sae_cli.config.commands.contrast import ContrastConfig, Curve
from sae_cli.config.commands.eval import EvalConfig
from sae_cli.config.evaluation import Baseline
from sae_cli.documents import Document, is_document
from sae_cli.errors import JobError, RequestError
from sae_cli.evaluation import evaluate
from sae_cli.metrics.contrast import Difference, difference, mean_of, over_seeds
from sae_cli.metrics.figure import Better, Figure
from sae_cli.metrics.frontier import LEAST_POINTS, OfSeed, at_equal_l0
from sae_cli.metrics.language_loss import exists, figures_of
from sae_cli.metrics.row_sums import RowSums
from sae_cli.runs.dictionary_run import DictionaryRun, is_trained_here, read_dictionary_run, trained_with
from sae_cli.runs.file_names import EVAL_FILE
from sae_cli.runs.row_files import read_rows


class Group(NamedTuple):
    """What is held against each other: dictionaries of one seed, where that is known.

    Attributes:
        a: one dictionary, or a sweep.
        b: the same of the other recipe; nothing where A is held against baselines.
    """

    a: tuple[DictionaryRun, ...]
    b: tuple[DictionaryRun, ...]
    seed: int | None

    @property
    def all(self) -> tuple[DictionaryRun, ...]:
        return self.a + self.b


def grouped(config: ContrastConfig) -> list[Group]:
    """The dictionaries by their seeds; where these do not say which belong together, in the order given.

    Raises:
        RequestError: one cannot be read, one is of another kind, or a sweep is too short for a curve.
    """
    a = [_source(each, "a") for each in config.a]
    b = [] if config.baselines() else [_source(each, "against") for each in config.against]
    for each in (*a, *b):
        if bool(each.card.truth) is not bool(a[0].card.truth):
            truth = each.card.truth or a[0].card.truth
            assert truth
            where = each.run.directory
            raise RequestError(f"{where}: expected dictionaries of a model or of {truth.called}, found both")
    if config.curve is Curve.l0:
        return _sweeps(a, b)
    if config.baselines():
        return [Group((each,), (), _seed(each)) for each in a]
    seeds_a, seeds_b = ([_seed(each) for each in runs] for runs in (a, b))
    if None not in seeds_a and len(set(seeds_a)) == len(a) and set(seeds_a) == set(seeds_b):
        by_seed = dict(zip(seeds_b, b, strict=True))
        return [Group((each,), (by_seed[seed],), seed) for each, seed in zip(a, seeds_a, strict=True)]
    return [Group((one,), (other,), None) for one, other in zip(a, b, strict=True)]


def _source(path: str, key: str) -> DictionaryRun:
    try:
        return read_dictionary_run(path)
    except RequestError as error:
        raise RequestError(f"{key}={error}") from error


def _seed(source: DictionaryRun) -> int | None:
    origin = source.origin()
    return trained_with(origin).seed if is_trained_here(origin) else None


def _sweeps(a: Sequence[DictionaryRun], b: Sequence[DictionaryRun]) -> list[Group]:
    """Those of A and B by seed."""
    if a[0].card.truth:
        raise RequestError(f"curve=l0: expected dictionaries of a language model, found {a[0].card.truth.called}")
    seeds_a, seeds_b = [_seed(each) for each in a], [_seed(each) for each in b]
    if set(seeds_a) != set(seeds_b):
        raise RequestError(
            f"curve=l0: expected a sweep in against= for each seed of a=, found seeds {_listed(seeds_b)} and "
            f"{_listed(seeds_a)}"
        )
    groups: list[Group] = []
    for seed in dict.fromkeys(seeds_a):
        of_seed = [tuple(run for run, own in zip(runs, seeds, strict=True) if own == seed)
                   for runs, seeds in ((a, seeds_a), (b, seeds_b))]  # fmt: skip
        for key, runs, single in (("a", of_seed[0], True), ("against", of_seed[1], False)):
            if len(runs) < LEAST_POINTS and not (single and len(runs) == 1):
                raise RequestError(
                    f"curve=l0: expected at least {LEAST_POINTS} dictionaries of seed {seed} in {key}=, of different "
                    f"L0, found {len(runs)}"
                )
        groups.append(Group(of_seed[0], of_seed[1], seed))
    return groups


def _listed(seeds: Sequence[int | None]) -> str:
    return ", ".join(sorted({str(each) for each in seeds}))


@dataclass(frozen=True)
class Measured:
    """The evaluation of a dictionary, or of a baseline beside it.

    Attributes:
        figures: by their names.
        rows: the sums of each row of text; None of data=synthetic, which has none.
    """

    figures: Document
    rows: RowSums | None

    def value(self, key: str) -> float | None:
        """A figure of it, where it exists."""
        found = self.figures.get(key)
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None

    def has_rows_of(self, key: str) -> bool:
        """Whether a figure follows from the sums."""
        return self.rows is not None and key in figures_of(self.rows.columns)


@dataclass(frozen=True)
class MeasuredGroup:
    """A `Group`, measured: of A the dictionaries and their baselines by name, of B the dictionaries."""

    a: tuple[Measured, ...]
    b: tuple[Measured, ...]
    baselines: dict[Baseline, Measured]

    def against(self, baseline: Baseline | None) -> Measured:
        """What the one dictionary of A is held against."""
        return self.b[0] if baseline is None else self.baselines[baseline]


def _settings(group: Group, config: ContrastConfig) -> list[EvalConfig]:
    """The evaluations of the dictionaries of a group that the contrast is of; baselines stand beside those of A."""
    found = [evaluate.settings_for(each.run.directory, config) for each in group.all]
    n = len(group.a)
    return [*(replace(each, baselines=config.baselines()) for each in found[:n]), *found[n:]]


def is_evaluated(group: Group, config: ContrastConfig) -> int:
    """How many dictionaries of a group have their evaluation already."""
    both = zip(group.all, _settings(group, config), strict=True)
    return sum(evaluate.is_evaluated(source, settings) for source, settings in both)


def evaluated(groups: Sequence[Group], config: ContrastConfig) -> list[MeasuredGroup]:
    """The groups, measured; where there is an evaluation, it is read.

    Raises:
        JobError: they are not of the same rows of text.
    """
    found: list[MeasuredGroup] = []
    first: tuple[DictionaryRun, FinishedRun, RowSums | None] | None = None
    for group in groups:
        measured: list[Measured] = []
        beside: dict[Baseline, Measured] = {}
        for source, settings in zip(group.all, _settings(group, config), strict=True):
            evaluation = evaluate.evaluation(source, settings, evaluate.default_name(settings))
            report: Document = evaluation.read_json(EVAL_FILE)
            measured.append(Measured(report, None if source.card.truth else read_rows(evaluation)))
            first = first or (source, evaluation, measured[0].rows)
            _check_rows(source, evaluation, measured[-1].rows, first)
            for name in settings.baselines:
                beside[name] = _baseline(evaluation, report, name, bool(source.card.truth))
        n = len(group.a)
        found.append(MeasuredGroup(tuple(measured[:n]), tuple(measured[n:]), beside))
    return found


def _baseline(evaluation: FinishedRun, report: Document, name: Baseline, synthetic: bool) -> Measured:
    all_of_them = report.get("baselines")
    figures = all_of_them.get(name.value) if is_document(all_of_them) else None
    if not is_document(figures):
        raise JobError(f"{evaluation.directory}: has no baseline {name.value}; evaluate again (overwrite=true)")
    return Measured(figures, None if synthetic else read_rows(evaluation, f"baselines.{name.value}"))


def _check_rows(
    source: DictionaryRun,
    evaluation: FinishedRun,
    rows: RowSums | None,
    first: tuple[DictionaryRun, FinishedRun, RowSums | None],
) -> None:
    """See that all are of the same rows, and of the same tokens in them."""
    other, before, sums = first
    if rows is None or sums is None:
        return
    tokens = [each.fact("tokens_sha256", str) for each in (evaluation, before)]
    if tokens[0] != tokens[1] or not rows.is_of_same_rows(sums):
        raise JobError(
            f"{source.run.directory}: was measured on other rows of text than {other.run.directory}; "
            "contrast dictionaries of one text, tokenizer and context"
        )


def differences(
    groups: Sequence[MeasuredGroup], config: ContrastConfig, known: dict[str, Figure]
) -> Iterator[tuple[str, Baseline | None, Difference | None]]:
    """Every figure that is asked for, against whatever A is held against; None where one of them does not have it."""
    for baseline in config.baselines() or [None]:
        for key in config.figures:
            material = config.material or known[key].material
            if config.curve is Curve.l0:
                yield key, None, _along_curve(groups, known[key], material)
            else:
                pairs = [(each.a[0], each.against(baseline)) for each in groups]
                yield key, baseline, _of_pairs(pairs, key, material)


def _of_pairs(pairs: Sequence[tuple[Measured, Measured]], key: str, material: float) -> Difference | None:
    both = [each for pair in pairs for each in pair]
    if all(each.has_rows_of(key) for each in both):
        sums = [(a.rows, b.rows) for a, b in pairs if a.rows and b.rows]
        if not all(exists(key, each) for pair in sums for each in pair):
            return None
        return difference(sums, figures_of(sums[0][0].columns)[key], material)
    values = [(a.value(key), b.value(key)) for a, b in pairs]
    given = [(a, b) for a, b in values if a is not None and b is not None]
    return over_seeds(given, material) if len(given) == len(values) else None


def _along_curve(groups: Sequence[MeasuredGroup], known: Figure, material: float) -> Difference | None:
    all_of_them = [each for group in groups for each in (*group.a, *group.b)]
    if not all(each.rows and each.has_rows_of(known.key) and exists(known.key, each.rows) for each in all_of_them):
        return None
    seeds = [
        OfSeed([each.rows for each in group.a if each.rows], [each.rows for each in group.b if each.rows])
        for group in groups
    ]
    figure = figures_of(seeds[0].b[0].columns)[known.key]
    return at_equal_l0(seeds, figure, known.better is Better.HIGHER, material)


def mean_of_a(groups: Sequence[MeasuredGroup], key: str, material: float) -> Difference | None:
    """A figure of A as its difference from nothing."""
    of_a = [each for group in groups for each in group.a]
    if all(each.has_rows_of(key) for each in of_a):
        rows = [each.rows for each in of_a if each.rows]
        return mean_of(rows, figures_of(rows[0].columns)[key], material)
    values = [each.value(key) for each in of_a]
    given = [(each, 0.0) for each in values if each is not None]
    return over_seeds(given, material) if len(given) == len(values) else None
