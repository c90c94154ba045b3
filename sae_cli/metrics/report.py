"""The parts of reports that have parts themselves: what is written under which key.

Single figures are in the same documents by the names that `catalogue` lists, and are read by these names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypeAlias, TypedDict, TypeGuard

from sae_cli.documents import Facts
from sae_cli.metrics.ablation import AblationFigures

Figures: TypeAlias = Mapping[str, float | None]
"""Numbers by their names; None for one that does not exist for this run."""


class AblationReport(AblationFigures):
    """What taking one feature out does, and the tokens that it raises and lowers most."""

    feature: int
    raises: list[str]
    lowers: list[str]


class GroupReport(TypedDict):
    """Some features of a dictionary: how many, and quantiles over them where there is one."""

    features: int
    encoder_alignment: NotRequired[float | None]
    frequency: NotRequired[Mapping[str, float]]
    b_enc: NotRequired[Mapping[str, float]]
    de_projection: NotRequired[Mapping[str, float]]


class TrajectoryReport(TypedDict):
    """The density of a set of features through training: one entry a window in `firing`, one a point in the others."""

    features: int
    late_slope: float | None
    firing: list[int]
    step: list[int]
    tokens_seen: list[float]
    density: list[float]


class TrajectoriesReport(TypedDict):
    """The trajectories of sets of features, and the part of training that is called early."""

    early: list[float]
    rare_now: TrajectoryReport
    exempt: TrajectoryReport
    not_exempt: TrajectoryReport
    resampled: TrajectoryReport


class SnapshotReport(TypedDict):
    """What the rare features, and the others, looked like at a step of the training."""

    step: int
    rare: GroupReport
    others: GroupReport


class RareReport(TypedDict):
    """Features that fire on a smaller share of tokens than `below`, beside all others that fire."""

    below: float
    rare: GroupReport
    others: GroupReport
    trajectories: NotRequired[TrajectoriesReport]
    snapshots: NotRequired[list[SnapshotReport]]


class ReferenceSize(TypedDict):
    """How large a reference model is, and the step of its training where it is a checkpoint."""

    name: str
    parameters: int
    step: NotRequired[int]


class ReferenceLoss(TypedDict, total=False):
    """Its loss, in the unit that all are placed by."""

    ce: float | None
    bits_per_byte: float | None


class ReferenceReport(ReferenceSize, ReferenceLoss):
    """One reference model, and by how much its loss is above that of the spliced one."""

    se: float | None
    difference_to_sae: float
    difference_se: float | None
    same_rows: bool


class EquivalentReport(TypedDict):
    """An `EquivalentModel`, the axis that it is on, and whether the intact model has a higher loss."""

    axis: str
    value: float | None
    low: float | None
    high: float | None
    below: str | None
    above: str | None
    outside: str | None
    monotone: bool
    left_out: Sequence[str]
    better_than_intact: bool


class PlacedReport(TypedDict):
    """A model with dictionaries in it among reference models."""

    references: list[ReferenceReport]
    references_unit: str
    references_condition: str
    equivalent_model: EquivalentReport | None


class DomainsReport(TypedDict, total=False):
    """The figures of each domain of a text that has several."""

    domains: dict[str, Figures]


class BeforeReport(TypedDict, total=False):
    """Of a pruned dictionary: figures of what it was made of, and how many features were taken out."""

    before: Facts
    killed: int


class EvaluationReport(DomainsReport, BeforeReport):
    """`eval.json` of one dictionary, but for its single figures; `PlacedReport` too where references were asked for."""

    rare: RareReport
    baselines: NotRequired[dict[str, Figures]]
    controls: NotRequired[dict[str, Figures]]
    ablation: NotRequired[list[AblationReport]]


class JointReport(DomainsReport):
    """`eval.json` of several dictionaries at once, but for its single figures; `PlacedReport` too."""

    dictionaries: dict[str, Facts]


MatchReport = TypedDict("MatchReport", {"mean": float, "share_0.9": float})
"""A one-to-one assignment of features: its mean cosine, and the share of cosines above .9."""


class BandReport(TypedDict):
    """Features of one band of frequencies, and the share of them that is found again; None without any."""

    frequency: str
    features: int
    matched: float | None


class PairReport(TypedDict):
    """Two dictionaries, by their numbers in the comparison, in both directions."""

    a: int
    b: int
    a_to_b: Mapping[str, float]
    b_to_a: Mapping[str, float]
    a_to_b_by_frequency: NotRequired[list[BandReport]]
    b_to_a_by_frequency: NotRequired[list[BandReport]]
    one_to_one: MatchReport | None


class AboutReport(TypedDict):
    """Figures of a dictionary that is compared: its counts, and quantiles over the features that fire."""

    features: int
    alive: int | None
    l0: float | None
    dense_1: int | None
    dense_10: int | None
    token_entropy_median: NotRequired[float | None]
    frequency: Mapping[str, float]
    de_projection: NotRequired[Mapping[str, float]]


class ContestantReport(AboutReport):
    """The same, with the run that it is in, or `truth`; and where there are more than two, the share of its features
    that is found again in all others but one at most."""

    run: str
    universal: NotRequired[float]


class ComparisonReport(TypedDict):
    """`compare.json`; the space is of comparisons of rows, and what else is not required is not in earlier ones."""

    by: NotRequired[str]
    matched_above: NotRequired[float]
    space: NotRequired[str]
    runs: list[ContestantReport]
    pairs: list[PairReport]
    metrics_version: int


class PairedReport(TypedDict):
    """Two dictionaries that were held against each other, and their seed where they were paired by it; `b` is the names
    of baselines where A was held against them, and `l0` where it was held against the curve of a sweep."""

    a: str
    b: str
    seed: int | None


class ContrastLine(TypedDict):
    """A `Difference` of a figure; `power` is the probability that a difference of the size that matters is found.

    `against` is the baseline, if it is against one; `unit` is `seeds and documents` or, of a figure that has no sums by
    document, `seeds`; `material` is null where no size is known.
    """

    figure: str
    against: str | None
    unit: str
    verdict: str
    within_material: bool
    a: float
    b: float
    difference: float
    se: float | None
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    material: float | None
    seeds: int
    documents: int | None
    seed_se: float | None
    document_se: float | None
    seeds_needed: int | None
    power: float | None


class PredictionReport(TypedDict):
    """What was predicted, what came out, and whether that is `true`, `false`, `undecided` or `not measured`."""

    prediction: str
    outcome: str
    value: float | None
    low: float | None
    high: float | None


class ContrastReport(TypedDict):
    """`contrast.json`.

    `missing`: figures that do not exist for one of the dictionaries, as `token2.fvu` against a baseline, or that have
    no L0 in common with the curve; `evaluated_before`: how many evaluations were there before anything was predicted;
    `sweep`: the dictionaries of the curve that A was held against.
    """

    pairs: list[PairedReport]
    sweep: list[str]
    documents: int | None
    lines: list[ContrastLine]
    missing: list[str]
    predictions: list[PredictionReport]
    evaluated_before: int
    metrics_version: int


class WordsReport(TypedDict):
    """Counts of feature pages, and the words for the numbers in the files beside `sheets.json`."""

    tokens_seen: int
    split: str
    vocabulary: dict[str, str]
    documents: dict[str, str]
    bands: int
    context: NotRequired[int]
    metrics_version: int


class PagesReport(WordsReport):
    """`sheets.json`: where the dictionary and its evaluation are, and the features that were taken out."""

    dictionary: str
    evaluation: str
    statistics_tokens: int
    ablation: list[AblationReport]


def is_placed(report: object) -> TypeGuard[PlacedReport]:
    """Whether references were asked for."""
    return isinstance(report, dict) and "references" in report


def is_joint(report: object) -> TypeGuard[JointReport]:
    """Whether it is of several dictionaries at once."""
    return isinstance(report, dict) and "dictionaries" in report


def figure(figures: Facts, key: str) -> float | None:
    """One of the figures of a report; None where it is not there, or does not exist.

    Raises:
        TypeError: something else is there.
    """
    return None if figures.get(key) is None else existing(figures, key)


def existing(figures: Facts, key: str) -> float:
    """One of the figures that are always there.

    Raises:
        KeyError: it is not.
        TypeError: it does not exist, or is no number.
    """
    value = figures[key]
    if isinstance(value, int | float):
        return value
    raise TypeError(f"{key}: expected a number, found {type(value).__name__}")
