"""The parts of `probe.json`: what is written under which key."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from sae_cli.documents import Document


class AurocReport(TypedDict):
    """An AUROC on test tokens, with its error and interval over documents; None of too few of them."""

    auroc: float
    auroc_se: float | None
    auroc_low: float | None
    auroc_high: float | None


class BestFeatureReport(AurocReport):
    """The feature that is chosen on tokens for fitting: its number, 1 or -1 for larger or smaller on the concept's
    tokens, and its figures on test tokens at the threshold of those for tuning."""

    feature: int
    sign: int
    auroc_fit: float
    average_precision: float
    threshold: float | None
    precision: float
    recall: float
    f1: float
    fpr: float
    precision_in_text: float


class DenseProbeReport(AurocReport):
    """A logistic regression; the log loss in nats a token."""

    log_loss: float
    balanced_accuracy: float


class SparseProbeReport(DenseProbeReport):
    """One on k features, and its C."""

    k: int
    penalty: float


class MoreReport(TypedDict):
    """How much larger the AUROC of the dictionary's best feature is, paired by document."""

    more: float
    more_low: float | None
    more_high: float | None


class BasisReport(TypedDict):
    """One basis: how many features there are to choose from, the best of them, probes on several, and the AUROC that
    the best of all has where labels tell nothing."""

    features: int
    best: BestFeatureReport
    sparse: list[SparseProbeReport]
    k95: int | None
    floor: float | None
    more: NotRequired[MoreReport]


class AgreementReport(TypedDict):
    """Tokens that m classifiers all take for the concept."""

    precision: float
    recall: float
    fpr: float


class ShiftReport(TypedDict):
    """The features and their rivals at one recall on tokens for tuning: figures on tokens like those and on others; and
    the false positives of the features less those of the dense probe on these others, paired by document."""

    m: int
    recall_on_tune: float
    same: dict[str, AgreementReport]
    shifted: dict[str, AgreementReport]
    fpr_less_dense: float | None
    fpr_less_dense_low: float | None
    fpr_less_dense_high: float | None


class AgreeReport(TypedDict):
    """Features that must agree: which, how alike their errors on negatives are, and how many independent ones these are
    worth."""

    features: list[int]
    phi: list[list[float]]
    m_eff: float
    by_m: list[ShiftReport]


class ConceptReport(TypedDict):
    """A concept, with negatives drawn in one way."""

    concept: str
    kind: str
    positives: dict[str, int]
    documents: dict[str, int]
    prevalence: float
    bases: dict[str, BasisReport]
    dense: dict[str, DenseProbeReport]
    discoveries: NotRequired[int]
    agree: NotRequired[AgreeReport | None]


class SkippedReport(TypedDict):
    """A concept that there was too little of."""

    concept: str
    kind: str
    reason: str


class AbsorbedReport(TypedDict):
    """A concept that implies another: how often the best feature of that one fires on its tokens, and on the others of
    that one's tokens."""

    concept: str
    implied_by: str
    recall: float
    recall_elsewhere: float


class CellsReport(TypedDict):
    """A probe of a concept on balanced tokens: means over splits, and standard errors over them. `parted` is the mean
    accuracy of the two cells with one of the concepts alone: 1/2 of a probe that cannot tell them."""

    accuracy: dict[str, float]
    worst: float
    worst_se: float
    parted: float
    parted_se: float
    auroc: float
    auroc_se: float
    auroc_of_companion: float
    auroc_of_companion_se: float


class AblatedReport(CellsReport):
    """One with features taken out: how many, and how much better the worst cell is than without, with its 95 % interval
    over splits and documents."""

    removed: float
    more: float
    more_low: float
    more_high: float


class JudgedReport(TypedDict):
    """What a judge says of the features that matter most to the probe, and what taking those out does: `ablated` the
    probe as it is on what is left, `refitted` one fitted to that; the rest are controls."""

    judge: str
    top: int
    conditions: dict[str, AblatedReport]


class ConfoundReport(TypedDict):
    """A concept and its spurious companion."""

    concept: str
    companion: str
    splits: int
    cells: int
    nothing: CellsReport
    balanced: CellsReport
    without_companion: CellsReport
    judged: list[JudgedReport]
    controls: NotRequired[dict[str, ConfoundReport]]


class ProbeReport(TypedDict):
    """All of `probe.json`: `rows` are the rows of the tensors beside it, `ties` labels that tokens do not have, `unit`
    what is told apart, a token or a document."""

    figures: Document
    concepts: list[ConceptReport]
    absorbed: list[AbsorbedReport]
    skipped: list[SkippedReport]
    rows: list[str]
    features: int
    hypotheses: int
    tokens: int
    ties: int
    unit: str
    confound: NotRequired[ConfoundReport]
    metrics_version: int
