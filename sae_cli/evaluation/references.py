"""A model with dictionaries in it, placed among reference models by their cross-entropy on the same held-out text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sae_cli.config.data import DataConfig, RecordData
from sae_cli.config.model import ModelConfig
from sae_cli.config.paths import absolute
from sae_cli.config.references import Reference, reference, training_step
from sae_cli.errors import RequestError
from sae_cli.evaluation.held_out import HeldOutText, check_losses
from sae_cli.evaluation.loss_tables import BITS_PER_BYTE, CE, PARAMETERS, STEPS
from sae_cli.metrics.equivalent_model import ROUNDING, Point, bracket, equivalent_model
from sae_cli.metrics.language_loss import LossSums, Predictions
from sae_cli.metrics.report import EquivalentReport, PlacedReport, ReferenceLoss, ReferenceReport, ReferenceSize
from sae_cli.metrics.row_sums import Estimate, OfTotals, RowSums
from sae_cli.models import LanguageModel, load_language_model
from sae_cli.models.load import check_language_model, load_tokenizer
from sae_cli.terminal import console
from sae_cli.text.token_identity import same_tokens


class Measured(NamedTuple):
    """A reference and its losses.

    Attributes:
        name: as it was asked for.
        parameters: how many it has, tied ones counted once.
        step: of its training, where it is a checkpoint.
        same_rows: whether it read the very rows of tokens that the dictionary's model read.
        sums: `tokens`, `bytes` and `ce_clean` of each row that it read.
    """

    name: str
    parameters: int
    step: int | None
    same_rows: bool
    sums: RowSums


@dataclass(frozen=True)
class References:
    """The references of an evaluation.

    Attributes:
        own: the dictionary's model, always one of the points.
        others: the rest, each once.
        model_rows: most rows a forward pass.
        read: the sums of each row that those have read which were placed, by their names.
    """

    own: ModelConfig
    others: tuple[Reference, ...]
    model_rows: int
    read: dict[str, RowSums] = field(default_factory=dict)

    @classmethod
    def of(cls, own: ModelConfig, names: Sequence[str], model_rows: int) -> References:
        """Those of these names, without repetition and without the dictionary's own model."""
        found = {_identity(each.model): each for each in map(reference, names)}
        found.pop(_identity(own), None)
        return cls(own, tuple(found.values()), model_rows)

    def check(self, data: DataConfig) -> None:
        """Refuse what is not there, or cannot be compared, before anything is measured."""
        if data.gaussian_embeddings:
            raise RequestError("references: expected text, found data.gaussian_embeddings=true; leave references out")
        for each in self.others:
            try:
                check_language_model(each.model.path, revision=each.model.revision)
                tokenizer = load_tokenizer(each.model.path, revision=each.model.revision)
                if setting := _of_one_tokenizer(data):
                    own = load_tokenizer(self.own.path, revision=self.own.revision)
                    _refuse_other_rows(same_tokens(tokenizer, own), setting)
            except RequestError as error:
                raise RequestError(f"references={each.name}: {error}") from error

    def place(self, text: HeldOutText, losses: LossSums) -> PlacedReport:
        """`references`, `equivalent_model` and what they are measured in.

        Args:
            text: what the dictionary's model has read.
            losses: of that model, clean and with the dictionary in it.
        """
        own = self.own.name or self.own.path
        own = f"{own}@{self.own.revision}" if self.own.revision else own
        clean = Measured(own, _parameters(text.model), training_step(self.own), True, losses.pooled)
        points = [clean, *(self._measure(each, text) for each in self.others)]
        self.read.update({each.name: each.sums for each in points[1:]})
        return Placement(points, losses).results()

    def _measure(self, wanted: Reference, text: HeldOutText) -> Measured:
        """The losses of one reference, which is in memory only while it runs."""
        console.log(f"reference: {wanted.name}")
        path, revision = wanted.model.path, wanted.model.revision
        own = text.model
        model = load_language_model(path, revision=revision, dtype=own.dtype, device=own.device)
        same = text.context <= model.max_context and same_tokens(model.tokenizer, own.tokenizer)
        if setting := _of_one_tokenizer(text.data):
            _refuse_other_rows(same, setting)
        context = min(text.data.context, model.max_context)
        data = replace(text.data, context=context)
        read = text if same else HeldOutText(model, data, self.model_rows, text.evaluation)
        rows = text.rows("reference") if same else read.rows_of_bytes(text.bytes_read(), "reference")
        sums = LossSums(())
        for each in rows:
            sums.add(Predictions(*each.text, model.outputs(each.tokens), (), each.counted, each.places))
        check_losses(sums, f"references={wanted.name}")
        return Measured(wanted.name, _parameters(model), training_step(wanted.model), same, sums.pooled)


def _of_one_tokenizer(data: DataConfig) -> str:
    """The setting that makes a text one of a single tokenizer, if there is one: others do not have the same text."""
    if not isinstance(data, RecordData):
        return ""
    return "data.tokens=true" if data.tokens else "data.chat=true" if data.chat else ""


def _refuse_other_rows(same: bool, setting: str) -> None:
    if not same:
        raise RequestError(
            f"expected a model that reads the same rows of tokens, as {setting} has them made for one tokenizer, found "
            "one of another tokenizer or a shorter context; leave it out"
        )


class Placement:
    """The references and the spliced model on one scale: nats a token, or bits a byte where rows differ.

    Args:
        points: the dictionary's own model, then the others.
        losses: of the dictionary's model, clean and with the dictionary in it.
    """

    def __init__(self, points: Sequence[Measured], losses: LossSums) -> None:
        self.own, self.points = points[0], points
        self.condition = "ce_sae" if "sae" in losses.conditions else "ce_sae_direct"
        self.losses = losses.pooled
        self.unit = CE if all(each.same_rows for each in points) else BITS_PER_BYTE

    def results(self) -> PlacedReport:
        """Everything for `eval.json`."""
        return {
            "references": [self._about(each) for each in self.points],
            "references_unit": self.unit,
            "references_condition": self.condition,
            "equivalent_model": self._equivalent(),
        }

    def _equivalent(self) -> EquivalentReport | None:
        axis = STEPS if self._are_checkpoints() else PARAMETERS
        curve = self._curve(axis)
        if not curve:
            return None
        loss = self._estimate(self.losses, self.condition).value
        assert loss is not None, "a loss of at least one row"
        found = equivalent_model(list(curve.values()), loss, self._error(curve, loss))
        intact = self._estimate(self.own.sums, "ce_clean").value
        better = intact is not None and loss < intact and not math.isclose(loss, intact, rel_tol=ROUNDING)
        return {
            "axis": axis,
            "value": found.value,
            "low": found.low,
            "high": found.high,
            "below": found.below,
            "above": found.above,
            "outside": found.outside,
            "monotone": found.monotone,
            "left_out": found.left_out,
            "better_than_intact": better,
        }

    def _about(self, each: Measured) -> ReferenceReport:
        loss, difference = self._estimate(each.sums, "ce_clean"), self._difference({each: 1.0})
        assert difference.value is not None, "losses of at least one row"
        return {
            **_size_of(each),
            **self._loss_of(loss.value),
            "se": loss.se,
            "difference_to_sae": difference.value,
            "difference_se": difference.se,
            "same_rows": each.same_rows,
        }

    def _loss_of(self, value: float | None) -> ReferenceLoss:
        return {"ce": value} if self.unit == CE else {"bits_per_byte": value}

    def _are_checkpoints(self) -> bool:
        """Whether the references are of the training of the dictionary's own model."""
        return len(self.points) > 1 and all(map(self._is_checkpoint, self.points[1:]))

    def _is_checkpoint(self, each: Measured) -> bool:
        return each.step is not None and each.parameters == self.own.parameters

    def _curve(self, axis: str) -> dict[Measured, Point]:
        """The references that have a place on the axis."""
        sizes: dict[Measured, int | None]
        if axis == STEPS:
            sizes = {each: each.step for each in self.points}
        else:
            sizes = {each: each.parameters for each in self.points if each is self.own or not self._is_checkpoint(each)}
        losses = {each: self._estimate(each.sums, "ce_clean").value for each in sizes}
        return {each: Point(each.name, size, losses[each] or 0.0) for each, size in sizes.items() if size}

    def _error(self, curve: Mapping[Measured, Point], loss: float) -> float | None:
        """The standard error of the spliced model's loss against the curve where it falls on it."""
        of_point = {point: each for each, point in curve.items()}
        if found := bracket(list(of_point), loss):
            below, above = of_point[found.below], of_point[found.above]
            weights = {below: 1.0} if below is above else {below: 1 - found.share, above: found.share}
        else:
            weights = {of_point[min(of_point, key=lambda point: abs(point.loss - loss))]: 1.0}
        return self._difference(weights).se

    def _difference(self, weights: Mapping[Measured, float]) -> Estimate:
        """The weighted loss of references minus that of the spliced model; paired by rows where these are the same."""
        if all(each.same_rows for each in weights):
            mixed = sum(weight * each.sums.column("ce_clean") for each, weight in weights.items())
            columns = {name: self.losses.column(name) for name in ("tokens", "bytes")}
            columns["difference"] = mixed - self.losses.column(self.condition)
            return self._estimate(RowSums.of(self.losses.places, **columns))
        parts = [(self._estimate(each.sums, "ce_clean"), weight) for each, weight in weights.items()]
        parts.append((self._estimate(self.losses, self.condition), -1.0))
        errors = [weight * (part.se if part.se is not None else math.nan) for part, weight in parts]
        se = math.hypot(*errors)
        value = sum(weight * (part.value or 0.0) for part, weight in parts)
        return Estimate(value, None if math.isnan(se) else se)

    def _estimate(self, sums: RowSums, column: str = "difference") -> Estimate:
        return sums.estimate(self._per_unit(column))

    def _per_unit(self, column: str) -> OfTotals:
        if self.unit == CE:
            return lambda s: s[column] / s["tokens"]
        return lambda s: s[column] / s["bytes"] / math.log(2)


def _size_of(each: Measured) -> ReferenceSize:
    if each.step is None:
        return {"name": each.name, "parameters": each.parameters}
    return {"name": each.name, "parameters": each.parameters, "step": each.step}


def _identity(model: ModelConfig) -> tuple[str, str | None]:
    return absolute(model.path), model.revision


def _parameters(model: LanguageModel) -> int:
    """How many parameters it has; those that are tied are one tensor."""
    return sum(parameter.numel() for parameter in model.hf.parameters())
