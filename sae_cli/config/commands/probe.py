"""`sae probe`: the features of a dictionary as classifiers of concepts."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

from omegaconf import MISSING

from sae_cli.config.command import MeasuringConfig
from sae_cli.config.idle import Idle
from sae_cli.config.naming import name_parts
from sae_cli.config.paths import absolute
from sae_cli.config.probe import ConfoundConfig, Judge, Pool, ProbeBasis, ProbingConfig
from sae_cli.config.roles import PathKind, number, place, setting, settings
from sae_cli.config.several import OneOrSeveral
from sae_cli.documents import Document

FILE_ENDING = ".jsonl"
_OF_PYTHON = ["python"]


@dataclass(kw_only=True)
class ProbeConfig(MeasuringConfig):
    """`sae probe`: features as classifiers of concepts; `sae probe PATH` means `run=PATH`.

    Attributes:
        run: the dictionary's run directory.
        labels: concepts: `python` or `text` for all that are built in, `python.param` for one of them,
            `regex:NAME=PATTERN`, or a .jsonl file of labelled documents, which then are the text; one, or a list.
        data: another corpus than the one the dictionary was trained on; null for the same.
        pool: of documents with one label each, what stands for their tokens.
        k: how many features the sparse probes have.
        baselines: what the features are held against.
        control: another dictionary of the same place, with the same tokens: of a network with random weights, with rows
            that were never trained.
        agree: most features that must agree; 0 for none.
        confound: a concept and its spurious companion, as `A:B`, which occur together or not at all where the probe is
            fitted.
        save: what the probe is called for `sae classify`; null for a name by its settings.
        out: a folder for what is measured, where the run cannot be written; null for the run's own.
    """

    command: ClassVar[str] = "probe"
    lives: ClassVar[str] = "probes live in their"
    held_in_memory: ClassVar[tuple[str, ...]] = ("probe.tokens", "probe.test_tokens", "probe.fit", "model_rows")

    labels: OneOrSeveral = settings(lambda: [*_OF_PYTHON])
    pool: Pool = setting(Pool.max)
    k: list[int] = settings(lambda: [1, 2, 4, 8, 16])
    baselines: list[ProbeBasis] = settings(lambda: [ProbeBasis.token, ProbeBasis.neurons, ProbeBasis.random])
    control: str | None = place(PathKind.here, None)
    agree: int = number(0, at_least=0, at_most=8)
    confound: str | None = setting(None)
    save: str | None = setting(None, execution=True)
    out: str | None = place(PathKind.here, None, execution=True)
    probe: ProbingConfig = settings(ProbingConfig)
    judge: ConfoundConfig = settings(ConfoundConfig)

    def __post_init__(self) -> None:
        if self.run != MISSING and not isinstance(self.run, str):
            raise ValueError("run=[…] of several: expected one dictionary; give -m run=A,B for one after another")
        self.labels = [self.labels] if isinstance(self.labels, str) else self.labels
        if not (isinstance(self.labels, list) and self.labels and all(isinstance(each, str) for each in self.labels)):
            raise ValueError(f"labels={self.labels}: expected a concept or a list of them")
        self.labels = [absolute(each, PathKind.here) if each.endswith(FILE_ENDING) else each for each in self.labels]
        if self.file and len(self.labels) > 1:
            raise ValueError(f"labels=[…]: {self.file} has labels of its own and its own text: give it alone")
        if not self.k or min(self.k) < 1:
            raise ValueError(f"k={self.k}: expected at least one number of features, from 1")
        self.k = sorted(set(self.k))
        self.baselines = [each for each in ProbeBasis if each in self.baselines]
        if self.save is not None:
            name_parts("save", self.save, several=False)
        if self.confound is not None:
            self.pair()
            self._check_judges()

    def _check_judges(self) -> None:
        for each in (Judge.rule, Judge.upstream):
            if each in self.judge.judges:
                needs = "explanations of features in words" if each is Judge.rule else "interactions between features"
                raise ValueError(
                    f"judge.judges={each.value} needs {needs}, which this version does not make: leave out"
                )
        if (Judge.names in self.judge.judges) != bool(self.judge.names):
            raise ValueError("judge.names=[…] and judge.judges=names go together: give both or neither")

    @property
    def file(self) -> str | None:
        """The file of labelled documents, if there is one."""
        return next((each for each in self.labels if each.endswith(FILE_ENDING)), None)

    def asked(self) -> list[str]:
        """The labels of the concepts that figures are of: where nothing is said but `confound`, of those two."""
        return self.pair() if self.confound is not None and self.labels == _OF_PYTHON else list(self.labels)

    def pair(self) -> list[str]:
        """The concept and its companion of `confound`; a ValueError where these are not two."""
        parts = (self.confound or "").split(":")
        if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
            raise ValueError(f"confound={self.confound}: expected two concepts, as python.defined:python.seen")
        return parts

    def called(self) -> str | None:
        return self.save

    def normalized(self, settings: Document) -> Document:
        """Without what has no effect."""
        idle = {each.key for each in self.idle()}
        return {key: value for key, value in settings.items() if key not in idle}

    def idle(self) -> Iterator[Idle]:
        yield from super().idle()
        if self.probe.truth:
            yield Idle("labels", "with probe.truth=true, whose concepts are the features of the truth", "leave it out")
        if self.confound is None:
            for each in fields(ConfoundConfig):
                yield Idle(f"judge.{each.name}", "without confound=", "give it")
        if self.file is None and self.pool is not Pool.max:
            yield Idle("pool", "without labels=FILE.jsonl of documents with one label", "leave it out")
