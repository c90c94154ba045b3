"""How features are held to be classifiers: which tokens, which rivals."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from sae_cli.config.idle import Idle
from sae_cli.config.roles import number, settings


class ProbeBasis(Enum):
    """What features are held against. `token`, `token2`: how often the current token, the last two tokens, are of the
    concept; `neurons`, `random`, `pca`, `ica`: coordinates of the activations in a basis; `directions`: as many random
    directions as the dictionary has features, each with a threshold that lets it fire as often as a feature."""

    token = "token"
    token2 = "token2"
    neurons = "neurons"
    random = "random"
    pca = "pca"
    ica = "ica"
    directions = "directions"


class Pool(Enum):
    """What stands for a document with one label: of each feature the largest of its tokens, their mean, the last."""

    max = "max"
    mean = "mean"
    last = "last"


class Judge(Enum):
    """Who says which features are of the companion. `oracle`: labels of both concepts, on balanced tokens; `names`: a
    list of features; `rule`: what is said of a feature in words; `upstream`: which features it depends on."""

    oracle = "oracle"
    names = "names"
    rule = "rule"
    upstream = "upstream"


@dataclass(kw_only=True)
class ProbingConfig:
    """Which tokens are taken.

    Attributes:
        truth: concepts are the features of a known truth.
        concepts: with `truth`, of how many, spread evenly over their numbers.
        tokens: positions of the training text that are looked at, for fitting and tuning.
        test_tokens: those of the held-out text.
        rows_per_document: rows of a document, chosen by hash, after which the next one follows; null: the text from its
            start.
        fit, tune, test: most tokens of a class that features and weights, thresholds, and figures are taken from.
        per_document: most tokens of a class from one document.
        least: tokens of a class that a concept has in each of the three, or is left out.
        least_documents: documents that those of the concept are in, in each of the three.
        permutations: of the labels, for the floor.
        seed: of everything that is drawn.
    """

    truth: bool = False
    concepts: int = number(32, at_least=1)
    tokens: int = number(200_000, at_least=1)
    test_tokens: int = number(100_000, at_least=1)
    rows_per_document: int | None = number(4, at_least=1)
    fit: int = number(4_000, at_least=10)
    tune: int = number(1_000, at_least=10)
    test: int = number(4_000, at_least=10)
    per_document: int = number(20, at_least=1)
    least: int = number(200, at_least=10)
    least_documents: int = number(10, at_least=5)
    permutations: int = number(20, at_least=0)
    seed: int = number(0, at_least=0, ordinal=True)

    def idle(self) -> Iterator[Idle]:
        """Its settings without effect."""
        if not self.truth:
            yield Idle("probe.concepts", "without probe.truth=true", "leave it out")
        if self.truth:
            yield Idle("probe.rows_per_document", "with probe.truth=true, which has no rows", "leave it out")


@dataclass(kw_only=True)
class ConfoundConfig:
    """How a spurious companion is told from a concept.

    Attributes:
        judges: who says which features are of the companion.
        names: with the judge `names`, the numbers of these features.
        top: how many of the features that matter most to the probe are judged.
        splits: how often fit and test tokens are drawn.
        n: tokens of each of the cells.
    """

    judges: list[Judge] = settings(lambda: [Judge.oracle])
    names: list[int] = settings(list, ordinal=True)
    top: list[int] = settings(lambda: [10, 20, 50, 100])
    splits: int = number(20, at_least=2)
    n: int = number(500, at_least=20)
