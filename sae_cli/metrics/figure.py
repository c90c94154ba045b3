"""What there is to say of a figure: what it is called, what it is of, in which unit, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, Flag, auto


class Of(Flag):
    """What a figure is of, and so where it is found."""

    EVALUATION = auto()
    """A dictionary: at the top of `eval.json`."""
    SEVERAL = auto()
    """One of several dictionaries that are in a model at once: `eval.json`, under `dictionaries`."""
    TRAINING = auto()
    """What `sae train` has found."""
    CURVE = auto()
    """A line of `metrics.jsonl`."""
    HARVEST = auto()
    """What `sae harvest` has found."""
    COMPARISON = auto()
    """What `sae compare` has found."""
    PAIR = auto()
    """Two dictionaries, in one direction: `compare.json`, under `pairs`."""
    PAGES = auto()
    """What `sae features` has found."""
    BENCH = auto()
    """A dictionary, by SAEBench's formulas: `bench.json`, under `figures`."""
    PROBE = auto()
    """The features of a dictionary as classifiers: `probe.json`, under `figures`."""
    FEATURE = auto()
    """A feature: one number for each in `features.safetensors`."""
    NEURON = auto()
    """A dimension of the activations: one number for each in `features.safetensors`."""


class Group(Enum):
    """Figures of an evaluation that are shown together."""

    RECONSTRUCTION = "Reconstruction and sparsity"
    EFFECT = "What the dictionary does to the loss of its model"
    LOSS = "Losses of the model"
    FEATURES = "Features"
    TRUTH = "Against a known truth (`data=synthetic`, `synthsaebench16k`, `compositional`)"
    COUNT = "Counts, and what the others are computed with"
    NONE = ""


class Better(Enum):
    """Which way a figure is better, other things being equal."""

    HIGHER = "higher"
    LOWER = "lower"
    ONE = "near 1"
    NEITHER = ""


class In(Flag):
    """Where a figure is shown, besides the tables that choose some by their keys."""

    NOWHERE = 0
    TABLE = auto()
    """The table that an evaluation ends with."""
    DIRECT = auto()
    """The same, where nothing but the direct path was measured."""
    PAGE = auto()
    """The page of a feature."""
    LIST = auto()
    """The list of features: a column, and an order to sort by."""
    HISTOGRAM = auto()
    """A histogram over features."""


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        key: its name in files, in `--json` and for `--require`.
        label: what people read beside its value.
        definition: in one line.
        of: what it is a figure of.
        group: the figures of an evaluation that it is shown with.
        unit: in which it is measured; of what has none, what its axis says.
        digits: how its value is written where that is not left to its size, as a format.
        better: which way.
        short: the label where there is little room, as above a column; the label, if nothing is given.
        title: what a chart or an axis of it says, if that is not its label.
        shown: where, besides tables that choose it by its key.
        material: the size of a difference that matters; 0 where none is known.
        has_error: its standard error is there as `<key>_se`, its 95 % interval as `<key>_low` and `<key>_high`.
    """

    key: str
    label: str
    definition: str
    of: Of = Of.EVALUATION
    group: Group = Group.NONE
    unit: str = ""
    digits: str = ".4f"
    better: Better = Better.NEITHER
    short: str = ""
    title: str = ""
    shown: In = In.NOWHERE
    has_error: bool = False
    material: float = 0.0

    def __post_init__(self) -> None:
        if not self.short:
            object.__setattr__(self, "short", self.label)

    @property
    def named(self) -> str:
        """The label with the unit: `CE increase, nats`."""
        return _with_unit(self.label, self.unit)

    @property
    def heading(self) -> str:
        """The same where there is little room, as above a column."""
        return _with_unit(self.short, self.unit)

    @property
    def axis(self) -> str:
        """What is written along an axis, or where it stands alone."""
        return self.title or self.named

    @property
    def chart(self) -> str:
        """The title of a chart of it."""
        return capitalized(self.title or self.label)

    @property
    def names(self) -> tuple[str, ...]:
        """Its key, and those of its standard error and the ends of its interval if it has them."""
        parts = ("", "_se", "_low", "_high") if self.has_error else ("",)
        return tuple(f"{self.key}{part}" for part in parts)

    @property
    def decimals(self) -> int:
        """Digits after the point, at least."""
        return int(self.digits[1:-1]) if self.digits[:1] == "." and self.digits[-1:] == "f" else 0

    def text(self, value: float) -> str:
        """The value as people read it."""
        return f"{value:{self.digits}}"


def capitalized(text: str) -> str:
    """With a capital letter at the beginning, the others as they are."""
    return text[:1].upper() + text[1:]


def _with_unit(label: str, unit: str) -> str:
    return f"{label}, {unit}" if unit else label
