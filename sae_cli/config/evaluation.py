"""How dictionaries are measured: the groups `eval` and `features`, and what they are measured against."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from sae_cli.config.idle import Idle
from sae_cli.config.roles import number, setting, settings
from sae_cli.config.split import Split

_AT_BITS = "_at_bits"


class Baseline(Enum):
    """What a dictionary is held against. `token`, `token2`: the mean activation of the current token, of the last two;
    the others: an orthonormal basis (ICA's is not orthogonal) in place of the dictionary's directions, with as many
    coefficients as its L0, or as its description length has room for."""

    token = "token"
    token2 = "token2"
    neurons = "neurons"
    random = "random"
    pca = "pca"
    ica = "ica"
    neurons_at_bits = f"neurons{_AT_BITS}"
    random_at_bits = f"random{_AT_BITS}"
    pca_at_bits = f"pca{_AT_BITS}"
    ica_at_bits = f"ica{_AT_BITS}"

    @property
    def basis(self) -> str:
        """What a basis is called."""
        return self.value.removesuffix(_AT_BITS)

    @property
    def at_bits(self) -> bool:
        """Whether a basis is held to the dictionary's bits a token, not to its L0."""
        return self.value.endswith(_AT_BITS)

    @property
    def tokens(self) -> int:
        """How many tokens it knows, if it knows nothing else; 0 for a basis."""
        return {Baseline.token: 1, Baseline.token2: 2}.get(self, 0)


class Space(Enum):
    """`activations`: as they are; `resid`: mapped to the residual stream; `logits`: to centered logits; `auto`: as
    they are if all belong to one hook, else the residual stream."""

    auto = "auto"
    activations = "activations"
    resid = "resid"
    logits = "logits"


class By(Enum):
    """What two features are held to be alike by. `directions`: what they write; `encoder`: what they read;
    `activations`: on which tokens they fire, and how strongly; `effects`: what they do to the logits."""

    directions = "directions"
    encoder = "encoder"
    activations = "activations"
    effects = "effects"

    @property
    def of_rows(self) -> bool:
        """Whether it is the cosine of their rows."""
        return self in (By.directions, By.encoder)


class Sample(Enum):
    """Which rows of the held-out text are measured. `spread`: one of every document, chosen by hash, then a second
    of each, and so on; `first`: those that the text begins with."""

    spread = "spread"
    first = "first"


class Exclude(Enum):
    """Positions that keep their own activations and are left out of reconstruction and losses. `first`: the first of
    each row; `bos`, `eos`, `pad`: those of the tokenizer's special tokens, wherever they stand."""

    first = "first"
    bos = "bos"
    eos = "eos"
    pad = "pad"


ROWS_PER_DOCUMENT = 4
LOOKED_AT = 10
LEAST_LOOKED_AT = 1_000_000
"""Tokens that rows are chosen from where nothing is said: for each that is measured, and at least. A stream is not read
to its end for them."""


@dataclass(kw_only=True)
class EvaluationConfig:
    """Reconstruction and losses, on held-out text.

    Attributes:
        tokens: evaluated positions (rounded up to whole rows; fewer where the text ends).
        sample: which rows.
        rows_per_document: most rows of a document; null for no limit, with which errors are too small where a few
            documents are far longer than the others.
        within: tokens at the start of the held-out text that rows are chosen from; null for ten times `tokens`, and
            at least a million.
        exclude: positions that keep their own activations, and whose reconstruction and prediction are not counted.
    """

    minutes: ClassVar[float | None] = None
    """There is no limit, except in `TimedEvaluationConfig`."""

    tokens: int = number(100_000, at_least=1)
    sample: Sample = setting(Sample.spread, added=True)
    rows_per_document: int | None = number(ROWS_PER_DOCUMENT, at_least=1, added=True)
    within: int | None = number(None, at_least=1, added=True)
    exclude: list[Exclude] = settings(lambda: [Exclude.first], added=True)

    def __post_init__(self) -> None:
        self.exclude = [each for each in Exclude if each in self.exclude]

    def of_tokens(self, tokens: int) -> "EvaluationConfig":
        """The same of another number of positions, without a limit in time."""
        return EvaluationConfig(
            tokens=tokens,
            sample=self.sample,
            rows_per_document=self.rows_per_document,
            within=self.within,
            exclude=self.exclude,
        )

    def idle(self) -> Iterator[Idle]:
        """Its settings without effect."""
        if self.sample is Sample.first:
            if self.rows_per_document != ROWS_PER_DOCUMENT:
                yield Idle("eval.rows_per_document", "with eval.sample=first", "leave it out")
            if self.within is not None:
                yield Idle("eval.within", "with eval.sample=first", "leave it out")


@dataclass(kw_only=True)
class TimedEvaluationConfig(EvaluationConfig):
    """The same within a time.

    Attributes:
        minutes: that an evaluation may take on this machine: where all tokens that are asked for, for losses and for
            features, would take longer, there are fewer of both, in proportion. null for no limit.
    """

    minutes: float | None = number(None, above=0, added=True)  # pyright: ignore[reportIncompatibleVariableOverride]


@dataclass(kw_only=True)
class FeaturePassConfig:
    """Per-feature statistics, from a pass of their own.

    Attributes:
        tokens: positions counted.
        split: `train` by default, because rare features need more tokens than a held-out set has.
        rows_per_document: rows of a document, chosen by hash, after which the next one follows; where all have given
            so many, as many again are taken of each. null: the text from its start.
        rare_below: features that fire, but on a smaller share of tokens, are looked at together as the rare ones.
    """

    tokens: int = number(200_000, at_least=1)
    split: Split = Split.train
    rows_per_document: int | None = number(ROWS_PER_DOCUMENT, at_least=1, added=True)
    rare_below: float = number(1e-4, above=0, at_most=1)


@dataclass(kw_only=True)
class ContextsConfig:
    """Where features fire, with the text around it; the split is that of the feature pass.

    Attributes:
        tokens: positions looked at (rounded up to whole rows; fewer where the text ends).
        top: contexts of the largest activations, at most one a row of text.
        bands: quantile bands of the positive activations.
        per_band: random contexts of each band.
        window: tokens around the one that a context is about, half of them before it.
        seed: of the random ones.
    """

    tokens: int = number(1_000_000, at_least=1)
    top: int = number(10, at_least=1)
    bands: int = number(5, at_least=0)
    per_band: int = number(3, at_least=0)
    window: int = number(24, at_least=0)
    seed: int = number(0, at_least=0, ordinal=True)

    def idle(self) -> Iterator[Idle]:
        """Its settings without effect."""
        if not self.bands:
            yield Idle("contexts.per_band", "with contexts.bands=0", "leave it out")
        if not self.bands or not self.per_band:
            yield Idle("contexts.seed", "without random contexts (contexts.bands, contexts.per_band)", "leave it out")
