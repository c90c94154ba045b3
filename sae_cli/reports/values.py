"""What a report consists of, as plain values: sections with tables and charts, and feature pages.

Every chart is drawn from named columns, and these columns are what its CSV file holds: there is no second copy of the
numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sae_cli.metrics.report import AblationReport

Column = np.ndarray | Sequence[str]
"""Numbers [N], or words."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What is measured, in which unit, and on which scale."""

    title: str
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Series:
    """Marks that belong together.

    Attributes:
        name: in the legend, and in the CSV file where a chart has several.
        columns: by name; all of one length, or a `ValueError` says so.
        x, y, z: the columns that the marks' places are read from; for `bars` x is the left edge.
        to: for `bars` the column of right edges.
        error: the column of standard errors of y.
        group: for `line` the column whose change begins a new line.
        label: the column with a word or a number for each mark, shown where the pointer is.
        feature: the column of feature numbers that the marks lead to.
        href: the column of addresses that the marks lead to.
        mark: `points`, `line`, `line+points` or `bars`.
        panel: which of the chart's panels, from the top.
        color: number of a color that does not depend on seeing colors alike.
        dash: `solid`, `dash`, `dot`.
        faint: drawn thin and pale, behind the others.
    """

    name: str
    columns: Mapping[str, Column]
    x: str
    y: str
    z: str = ""
    to: str = ""
    error: str = ""
    group: str = ""
    label: str = ""
    feature: str = ""
    href: str = ""
    mark: str = "points"
    panel: int = 0
    color: int = 0
    dash: str = "solid"
    faint: bool = False

    def __post_init__(self) -> None:
        if len({np.shape(values) for values in self.columns.values()}) != 1 or len(np.shape(self.columns[self.x])) != 1:
            raise ValueError(f"{self.name}: columns that are not of one length")

    def __len__(self) -> int:
        return len(self.columns[self.x])


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line across a panel, at a value of one axis."""

    axis: str
    value: float
    label: str
    panel: int = 0


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Panels that share an x axis, or one chart in three dimensions.

    Attributes:
        name: of its CSV file, and its place in the page.
        title: what it shows.
        caption: how to read it.
        x: the axis that all panels share.
        y: one axis a panel.
        z: the third axis of a chart in three dimensions.
        key: names and values that tell in words what the chart shows, for those who do not see it.
    """

    name: str
    title: str
    series: Sequence[Series]
    x: Axis
    y: Sequence[Axis]
    z: Axis | None = None
    lines: Sequence[Line] = ()
    caption: str = ""
    key: Sequence[tuple[str, str]] = ()

    @property
    def described(self) -> str:
        """The chart in words."""
        return f"{self.title}. " + "".join(f"{name}: {value}. " for name, value in self.key)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell with what it is sorted by, or leads to."""

    text: str
    order: float | None = None
    href: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of text; `sortable` by a click on a column's name. `folded` ones are opened on demand."""

    rows: Sequence[Sequence[str | Cell]]
    title: str = ""
    header: Sequence[str] = ()
    sortable: bool = False
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report; `missing` says in one line what is not shown, and which command makes it."""

    name: str
    title: str
    text: str = ""
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    missing: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class FeaturePages:
    """What the feature browser shows of C features.

    Attributes:
        feature: their numbers, ascending [C].
        statistics: by name [C]; those that are missing are not offered.
        tokens: ids of each context, -1 for none [C, S, W].
        activations: of the feature on these tokens [C, S, W].
        document: ids, -1 where a slot is empty [C, S].
        quantile: 0 for the largest activations, else a band, 1 for the lowest [C, S].
        peak: the activation that a context is shown for [C, S].
        vocabulary, documents: the words for the ids.
        bands: how many bands of activations there are.
        nearest, nearest_cosine: the features with the nearest decoder rows [C, K].
        logits: `top_token`, `top_weight`, `bottom_token`, `bottom_weight` [C, K]; empty without a map to logits.
        ablation: figures of the features that were taken out, by their number.
        concepts: of features that tell one, the concept that each tells best, in words.
    """

    feature: np.ndarray
    statistics: Mapping[str, np.ndarray]
    tokens: np.ndarray
    activations: np.ndarray
    document: np.ndarray
    quantile: np.ndarray
    peak: np.ndarray
    vocabulary: Mapping[int, str]
    documents: Mapping[int, str]
    bands: int
    nearest: np.ndarray
    nearest_cosine: np.ndarray
    logits: Mapping[str, np.ndarray] = field(default_factory=dict)
    ablation: Mapping[int, AblationReport] = field(default_factory=dict)
    concepts: Mapping[int, str] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole page."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    features: FeaturePages | None = None
    footer: str = ""
